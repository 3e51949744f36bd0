import itertools
import math

import pytest
import torch

from capcli.model.decoders import AttentionDecoder
from capcli.model.encoders import Features
from capcli.model.vocabulary import PAD
from capcli.training.learning.losses import (
    Baseline,
    attention_supervision,
    caption_loss,
    doubly_stochastic,
    hard_attention_loss,
)


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


def test_only_words_whose_place_is_known_are_supervised() -> None:
    targets = torch.tensor([[[4, 5, 2, PAD]], [[5, 2, PAD, PAD]]])
    named = torch.tensor([False] * 5 + [True])
    distribution = torch.tensor([0.1, 0.2, 0.7]).expand(2, 1, 4, 3)
    places = torch.tensor([[True, True, False], [False, False, False]])
    # One "5" in the photo whose places are known, five words in all.
    expected = -math.log(0.1 + 0.2) / 5
    assert float(attention_supervision(distribution, targets, named, places)) == pytest.approx(expected)


def test_a_location_is_rewarded_for_what_comes_after_it() -> None:
    torch.manual_seed(1)
    logits, targets = torch.randn(1, 2, 3, 7), torch.tensor([[[4, 5, 2], [6, 2, PAD]]])
    words = logits.log_softmax(3).gather(3, targets.unsqueeze(3)).squeeze(3)
    baseline = Baseline(7)
    baseline.means.fill_(-1.5)
    advantage = baseline.reward_to_go(logits, targets)
    a, b, c = (words[0, 0] + 1.5).tolist()
    assert advantage[0, 0].tolist() == pytest.approx([a + b + c, b + c, c], abs=1e-5)
    a, b, _ = (words[0, 1] + 1.5).tolist()
    assert advantage[0, 1].tolist() == pytest.approx([a + b, b, 0], abs=1e-5)


def test_each_word_has_a_moving_average_of_its_own() -> None:
    torch.manual_seed(1)
    baseline = Baseline(7)
    logits, targets = torch.randn(1, 1, 3, 7), torch.tensor([[[4, 4, 2]]])
    words = logits.log_softmax(3).gather(3, targets.unsqueeze(3)).flatten().tolist()
    # A word's first time: compared with its mean in the batch, so the only 2 is as was to be expected.
    assert baseline.reward_to_go(logits, targets)[0, 0, 2].item() == pytest.approx(0, abs=1e-6)
    first = (words[0] + words[1]) / 2
    assert baseline.means[4].item() == pytest.approx(first, abs=1e-5)
    assert baseline.means[5].isnan()
    logits = torch.randn(1, 1, 1, 7)
    second = logits.log_softmax(3)[0, 0, 0, 4].item()
    assert baseline.reward_to_go(logits, torch.tensor([[[4]]])).item() == pytest.approx(second - first, abs=1e-5)
    assert baseline.means[4].item() == pytest.approx(0.9 * first + 0.1 * second, abs=1e-5)
    assert baseline.means[2].item() == pytest.approx(words[2], abs=1e-5)


def test_reinforce_estimates_the_exact_gradient() -> None:
    """Against E_s[log p(y | s)] summed over every way to look at a grid of two cells."""
    torch.manual_seed(3)
    decoder = AttentionDecoder(6, 3, 6, 6, 6, dropout=0.0, hard=True).double()
    for parameter in decoder.parameters():
        parameter.data.mul_(2)
    decoder.eval()  # no image is shown the expected context
    annotations = torch.randn(1, 2, 3, dtype=torch.double)
    features = Features(annotations, annotations.mean(1))
    words, targets = torch.tensor([[[1, 4, 5]]]), torch.tensor([[[4, 5, 2]]])
    watched = [decoder.attention.query.weight, decoder.attention.score.weight, decoder.annotation.weight]

    def gradient(objective: torch.Tensor) -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(objective, watched)])

    expected = torch.zeros((), dtype=torch.double)
    for locations in itertools.product(range(2), repeat=3):
        choices = iter(locations)
        decoder.attention.choose = lambda d, _, c=choices: torch.eye(2, dtype=d.dtype)[next(c)].expand_as(d)
        reading = decoder(features, words)
        probability = (reading.distribution * reading.attention).sum(3).prod()
        log_likelihood = reading.logits.log_softmax(3).gather(3, targets.unsqueeze(3)).sum()
        expected = expected + probability * log_likelihood
    exact = gradient(expected)

    del decoder.attention.choose
    decoder.attention.train()  # draws
    count, samples = 150, 40
    words, targets = words.expand(1, samples, 3), targets.expand(1, samples, 3)
    estimates = []
    baseline = Baseline(6)
    baseline.means.fill_(-2.0)
    for _ in range(count):
        reading = decoder(features, words)
        advantage = baseline.reward_to_go(reading.logits, targets)
        loss = caption_loss(reading.logits, targets)
        estimates.append(-3 * gradient(loss + hard_attention_loss(reading, targets, advantage, 1.0, 0.0)))
    stacked = torch.stack(estimates)
    error = stacked.std(0) / count**0.5
    assert exact.abs().max() > 0.05
    z = (stacked.mean(0) - exact) / error.clamp_min(1e-9)
    assert z.abs().max() < 4.5
    assert z.square().mean() < 2
