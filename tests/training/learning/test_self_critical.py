import pytest
import torch

from capcli.model.decoders import AttentionDecoder
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, PAD, START
from capcli.training.learning.self_critical import TEMPERATURE, CiderD, advantages, policy_loss, sample_captions

REFERENCES = [
    ["a cat sits on a sofa".split(), "a grey cat lies on the sofa".split()],
    ["two dogs run on grass".split(), "dogs are running".split(), "a dog and a dog".split()],
    ["a man rides a horse".split()],
]


def test_cider_d_equals_pycocoevalcap() -> None:
    from pycocoevalcap.cider.cider import Cider

    cider = CiderD(REFERENCES)
    captions = ["a cat on a sofa sofa".split(), "two dogs are running".split(), "a man a man".split()]
    marked = {i: [" ".join([*c, "END"]) for c in several] for i, several in enumerate(REFERENCES)}
    _, expected = Cider().compute_score(marked, {i: [" ".join([*c, "END"])] for i, c in enumerate(captions)})
    assert [cider.score(c, i) for i, c in enumerate(captions)] == pytest.approx(list(expected), rel=1e-6)


def test_a_sentence_cut_short_scores_less() -> None:
    cider = CiderD(REFERENCES)
    assert cider.score("a cat sits on a".split(), 0) < cider.score("a cat sits on a sofa".split(), 0)
    assert cider.score([], 0) == 0


def test_advantage_is_against_the_other_samples() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    assert advantages(rewards).tolist() == [[1 - 4.0, 2 - 3.5, 6 - 1.5], [0, 0, 0]]


def make_decoder() -> tuple[AttentionDecoder, Features]:
    torch.manual_seed(0)
    decoder = AttentionDecoder(7, 5, hidden_size=8, embedding_size=8, attention_size=8).eval()
    annotations = torch.randn(2, 3, 5)
    return decoder, Features(annotations, annotations.mean(1))


def test_samples_follow_the_distribution() -> None:
    decoder, features = make_decoder()
    drawn = sample_captions(decoder, features, 4000, max_length=5)
    first = decoder.step(torch.full((2, 1), START), decoder.start(features)).logits[:, 0].div(TEMPERATURE).softmax(1)
    for image in range(2):
        shares = torch.bincount(drawn[image, :, 0], minlength=7) / 4000
        assert torch.allclose(shares, first[image], atol=0.03)
    ended = (drawn == END).long().cumsum(2)
    assert ((drawn == PAD) == ((ended - (drawn == END).long()) > 0)).all()


def test_training_on_rewards_raises_the_reward() -> None:
    decoder, features = make_decoder()
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)

    def reward(drawn: torch.Tensor) -> torch.Tensor:  # every 5 is worth a point
        return (drawn == 5).sum(2).float()

    torch.manual_seed(1)
    before = reward(sample_captions(decoder, features, 200, 5)).mean()
    for _ in range(40):
        drawn = sample_captions(decoder, features, 20, 5)
        words = torch.cat([torch.full_like(drawn[:, :, :1], START), drawn[:, :, :-1]], 2)
        loss = policy_loss(decoder(features, words).logits, drawn, advantages(reward(drawn)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert reward(sample_captions(decoder, features, 200, 5)).mean() > before + 2


def test_sampling_leaves_the_gradients_of_half_precision_alone() -> None:
    """What autocast keeps of the weights while it samples without gradients must not serve the training step."""
    decoder, features = make_decoder()
    with torch.autocast("cpu", torch.bfloat16):
        drawn = sample_captions(decoder, features, 3, 5)
        words = torch.cat([torch.full_like(drawn[:, :, :1], START), drawn[:, :, :-1]], 2)
        policy_loss(decoder(features, words).logits, drawn, torch.ones(2, 3)).backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())
