import torch

from capcli.attention import SoftAttention


def test_weights_follow_the_formula_and_sum_to_one() -> None:
    torch.manual_seed(0)
    attention = SoftAttention(hidden_size=5, annotation_size=4, attention_size=6)
    hidden, annotations = torch.randn(2, 3, 5), torch.randn(2, 9, 4)
    context, weights = attention(hidden, attention.key(annotations), annotations)
    assert torch.allclose(weights.sum(2), torch.ones(2, 3), atol=1e-6)
    for image in range(2):
        for beam in range(3):
            energies = torch.stack(
                [
                    attention.score.weight[0]
                    @ torch.tanh(attention.query(hidden[image, beam]) + attention.key.weight @ annotations[image, i])
                    for i in range(9)
                ]
            )
            expected = energies.softmax(0)
            assert torch.allclose(weights[image, beam], expected, atol=1e-6)
            assert torch.allclose(context[image, beam], expected @ annotations[image], atol=1e-6)
