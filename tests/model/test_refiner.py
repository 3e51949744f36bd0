"""The layer by which annotation vectors take in each other."""

from __future__ import annotations

import pytest
import torch

from capcli.model.config import REFINER_HEADS, ModelConfig
from capcli.model.refiner import Refiner


def make_refiner(size: int = 16) -> Refiner:
    """A refiner that changes what it is given, as a trained one does."""
    torch.manual_seed(3)
    refiner = Refiner(size, 0.5).eval()
    for parameter in refiner.parameters():
        parameter.data.uniform_(-0.5, 0.5)
    return refiner


def test_it_begins_by_changing_nothing() -> None:
    annotations = torch.randn(2, 9, 16)
    torch.testing.assert_close(Refiner(16, 0.5).eval()(annotations), annotations)


def test_it_computes_what_the_paper_says() -> None:
    refiner, (x,) = make_refiner(), torch.randn(1, 5, 16)
    size = 16 // REFINER_HEADS
    queries, keys, values = refiner.read(refiner.norm(x)).split(16, 1)
    seen = []
    for head in range(REFINER_HEADS):
        q, k, v = (part[:, head * size : (head + 1) * size] for part in (queries, keys, values))
        seen.append(torch.softmax(q @ k.T / size**0.5, 1) @ v)
    y = x + refiner.join(torch.cat(seen, 1))
    expected = y + refiner.narrow(torch.relu(refiner.widen(refiner.norm_wide(y))))
    torch.testing.assert_close(refiner(x[None])[0], expected)


@pytest.mark.parametrize(("of_the_decoder", "its_own"), [(0, 0), (0.05, 0.05), (0.5, 0.1)])
def test_it_drops_a_tenth_at_the_most(of_the_decoder: float, its_own: float) -> None:
    refiner, annotations = make_refiner(), torch.ones(1, 4, 16)
    refiner.set_dropout(of_the_decoder)
    assert refiner.dropout.p == its_own
    assert torch.equal(refiner.train()(annotations), refiner(annotations)) == (of_the_decoder == 0)


def test_it_knows_no_positions() -> None:
    refiner, annotations, order = make_refiner(), torch.randn(3, 6, 16), torch.randperm(6)
    torch.testing.assert_close(refiner(annotations)[:, order], refiner(annotations[:, order]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"decoder": "pre-inject", "refine": True}, "refine needs a decoder with attention; pre-inject has none"),
        ({"embedding_size": 20, "refine": True}, "embedding_size is 20; with refine it has to be a multiple of 8"),
    ],
)
def test_configs_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ModelConfig(**wrong)  # type: ignore[arg-type]
