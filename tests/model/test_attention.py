import pytest
import torch

from capcli.model.attention import HardAttention, SoftAttention


def test_weights_follow_the_formula_and_sum_to_one() -> None:
    torch.manual_seed(0)
    attention = SoftAttention(hidden_size=5, annotation_size=4, attention_size=6)
    hidden, annotations = torch.randn(2, 3, 5), torch.randn(2, 9, 4)
    weights = attention.choose(attention.distribution(hidden, attention.keys(annotations)))
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


def test_hard_attention_keeps_one_location() -> None:
    distribution = torch.tensor([[[0.2, 0.5, 0.3]]])
    attention = HardAttention(2, 2, 2).eval()
    assert attention.choose(distribution).tolist() == [[[0, 1, 0]]]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([attention.choose(distribution, generator) for _ in range(3000)]).mean(0)
    assert torch.allclose(drawn, distribution, atol=0.03)
    attention.train()
    torch.manual_seed(0)
    drawn = torch.stack([attention.choose(distribution) for _ in range(3000)]).mean(0)
    assert torch.allclose(drawn, distribution, atol=0.03)


def test_the_monte_carlo_mean_approaches_the_soft_context_as_one_over_root_k() -> None:
    torch.manual_seed(0)
    attention = HardAttention(2, 2, 2)  # in training mode: it draws
    distribution, annotations = torch.randn(1, 400, 9).softmax(2), torch.randn(1, 9, 5)
    soft = distribution @ annotations
    errors = {}
    for count in (16, 64, 256):
        means = sum(attention.choose(distribution) @ annotations for _ in range(count)) / count
        errors[count] = float((means - soft).square().mean().sqrt())
    assert errors[16] / errors[64] == pytest.approx(2, rel=0.1)
    assert errors[64] / errors[256] == pytest.approx(2, rel=0.1)
