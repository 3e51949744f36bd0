import pytest
import torch

from capcli.training.losses import caption_loss, doubly_stochastic
from capcli.vocabulary import PAD


def test_padding_does_not_count() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(1, 2, 3, 7), torch.tensor([[[4, 5, 2], [6, 2, PAD]]])
    log_probs = logits.log_softmax(3)
    expected = -(
        log_probs[0, 0, 0, 4]
        + log_probs[0, 0, 1, 5]
        + log_probs[0, 0, 2, 2]
        + log_probs[0, 1, 0, 6]
        + log_probs[0, 1, 1, 2]
    )
    assert caption_loss(logits, targets) == pytest.approx(float(expected) / 5, abs=1e-6)


def test_attention_that_looks_everywhere_once_costs_nothing() -> None:
    targets = torch.tensor([[[4, 5, 2, PAD]]])
    once = torch.eye(4)[[0, 1, 2, 2]].view(1, 1, 4, 4)
    # The fourth place is never looked at, and the glance under <pad> does not count.
    assert doubly_stochastic(once, targets) == pytest.approx(1.0)
    assert doubly_stochastic(torch.full((1, 1, 4, 4), 1 / 3), targets) == pytest.approx(0.0, abs=1e-6)
