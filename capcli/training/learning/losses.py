"""Losses for training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from capcli.model.decoders import Decoder, Reading
from capcli.model.encoders import Features
from capcli.model.vocabulary import PAD
from capcli.training.data.datasets import behind_start
from capcli.training.learning.ranks import Ranks

ENTROPY_WEIGHT = 0.002  # λ_e
REWARD_WEIGHT = 0.5  # λ_r; with 1 the estimate's noise drowns out what the words teach
BASELINE_DECAY = 0.9  # weight of the past in the baseline's moving averages


def caption_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy per word, (), without `<pad>`.

    logits: (batch, captions, time, vocabulary).
    targets: (batch, captions, time) ids.
    label_smoothing: probability spread evenly over all words, 0 to 1 (Szegedy et al. 2016 §7).
    """
    return F.cross_entropy(
        logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, label_smoothing=label_smoothing
    )


@torch.no_grad()
def summed_loss(
    decoder: Decoder,
    features: Features,
    captions: list[tuple[list[int], ...]],
    captions_at_once: int,
    label_smoothing: float = 0.0,
) -> tuple[float, int]:
    """Return the sum of `caption_loss` over all words, and their number.

    decoder: in evaluation mode.
    captions: per photo, from `encode_captions`.
    captions_at_once: as memory allows, 1 or more.
    """
    each = max(map(len, captions))
    total, words = 0.0, 0
    for rows in torch.arange(len(captions)).split(max(1, captions_at_once // each)):
        several = [captions[row] + ([PAD],) * (each - len(captions[row])) for row in rows.tolist()]
        ids = [torch.tensor(caption) for caption_list in several for caption in caption_list]
        targets = nn.utils.rnn.pad_sequence(ids, True, PAD).view(len(rows), each, -1).to(features.annotations.device)
        logits = decoder(features.take(rows.to(targets.device)), behind_start(targets)).logits
        count = int((targets != PAD).sum())
        total, words = total + caption_loss(logits, targets, label_smoothing).item() * count, words + count
    return total, words


def doubly_stochastic(attention: Tensor, targets: Tensor) -> Tensor:
    """Return Σ_i (1 − Σ_t α_ti)², (), averaged over captions, which teaches to look everywhere once.

    attention: (batch, captions, time, locations).
    targets: (batch, captions, time) ids; steps with `<pad>` do not count.

    Source: Xu et al. 2015 §4.2.1.
    """
    looked = (attention * (targets != PAD).unsqueeze(3)).sum(2)
    return torch.square(1 - looked).sum(2).mean()


def attention_supervision(distribution: Tensor, targets: Tensor, named: Tensor, places: Tensor) -> Tensor:
    """Return −log Σ_{i ∈ place} α_ti, (), over words whose place in the photo is known.

    Summed over those words but divided by the number of all, so each weighs as much as in `caption_loss`.

    distribution: (batch, captions, time, locations), α_ti.
    targets: (batch, captions, time) ids.
    named: (vocabulary,) bool, words for what is in the places.
    places: (batch, locations) bool, all False if unknown.

    Source: Liu et al. 2017 (arXiv:1605.09553), attention correctness.
    """
    # Liu et al. teach it by cross-entropy with a map spread over the place, which would make attention cover all of it.
    inside = torch.einsum("bctl,bl->bct", distribution, places.to(distribution.dtype))
    known = named[targets] & places.any(1)[:, None, None]
    return -(inside.clamp_min(1e-6).log() * known).sum() / (targets != PAD).sum()


class Baseline:
    """Keep a moving average of each vocabulary word's log-probability, as the baseline for rewards.

    means: (vocabulary,), NaN for words not seen yet.

    Source: Xu et al. 2015 §4.1, with an average per word.
    """

    # Xu et al. average whole captions. But most of a caption's log-probability depends on how hard its words are to
    # guess, wherever one looks. An average per word removes that too and, not depending on locations, adds no bias.

    def __init__(self, words: int, ranks: Ranks | None = None) -> None:
        """Begin without averages for a vocabulary of this size.

        ranks: processes training together, which share the averages; None for one alone.
        """
        self.means, self.ranks = torch.full((words,), torch.nan), ranks or Ranks()

    def reward_to_go(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return each location's reward, (batch, captions, time), without gradient, and update the averages.

        It is the log-probability of its word and those after, less their averages; 0 for `<pad>`.

        logits: (batch, captions, time, vocabulary).
        targets: (batch, captions, time) ids.
        """
        with torch.no_grad():
            loss = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, reduction="none")
            means, words = self.means.to(loss.device), targets.flatten()
            sums, counts = (torch.zeros_like(means).index_add_(0, words, x) for x in (-loss, torch.ones_like(loss)))
            sums, counts = self.ranks.add(torch.stack([sums, counts]))
            now = sums / counts  # NaN for words not in this batch
            means = means.where(~means.isnan(), now)  # words seen for the first time
            gain = ((-loss - means[words]) * (words != PAD)).view(targets.shape)
            self.means = means.lerp(now, 1 - BASELINE_DECAY).where(~now.isnan(), means).cpu()
            # Earlier words do not depend on the location and would only add noise.
            return gain.flip(2).cumsum(2).flip(2) * (targets != PAD)


def hard_attention_loss(
    reading: Reading,
    targets: Tensor,
    advantage: Tensor,
    reward_weight: float = REWARD_WEIGHT,
    entropy_weight: float = ENTROPY_WEIGHT,
) -> Tensor:
    """Return the REINFORCE and entropy terms of hard attention, (), averaged over words.

    With a reward_weight of 1, advantage · ∇ log p(s | a) and ∇ log p(y | s, a) add up to an unbiased estimate of the
    gradient of the expected log-likelihood. Images given the expected context chose no location and contribute only
    entropy.

    reading: of the targets, by a decoder with hard attention.
    targets: (batch, captions, time) ids.
    advantage: (batch, captions, time), from `Baseline.reward_to_go`.
    reward_weight: λ_r, 0 or more.
    entropy_weight: λ_e, 0 or more.

    Source: Xu et al. 2015 §4.1, eq. 12.
    """
    assert reading.attention is not None
    assert reading.distribution is not None
    mask = targets != PAD
    log_distribution = reading.distribution.clamp_min(1e-12).log()
    chosen = reading.attention.detach() == 1
    choice = (log_distribution * chosen).sum(3) * mask
    entropy = -(reading.distribution * log_distribution).sum(3) * mask
    gain = reward_weight * advantage * choice + entropy_weight * entropy
    return -gain.sum() / mask.sum()
