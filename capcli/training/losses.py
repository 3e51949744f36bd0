"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from capcli.model.decoders import Reading
from capcli.model.vocabulary import PAD

ENTROPY_WEIGHT = 0.002  # λ_e
REWARD_WEIGHT = 0.5  # λ_r; with 1 the noise of the estimate drowns what the words themselves teach
BASELINE_DECAY = 0.9


def caption_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy per word, (), `<pad>` not counted.

    logits: (batch, captions, time, vocabulary).
    targets: (batch, captions, time) ids.
    label_smoothing: share of each word's probability that goes to all words alike, 0 to 1 (Szegedy et al. 2016 §7).
    """
    return F.cross_entropy(
        logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, label_smoothing=label_smoothing
    )


def doubly_stochastic(attention: Tensor, targets: Tensor) -> Tensor:
    """Return Σ_i (1 − Σ_t α_ti)², (), a mean over captions: every place is to be looked at once.

    attention: (batch, captions, time, locations).
    targets: (batch, captions, time) ids; steps whose target is `<pad>` do not count.

    Source: Xu et al. 2015 §4.2.1.
    """
    looked = (attention * (targets != PAD).unsqueeze(3)).sum(2)
    return torch.square(1 - looked).sum(2).mean()


def attention_supervision(distribution: Tensor, targets: Tensor, named: Tensor, places: Tensor) -> Tensor:
    """Return −log Σ_{i ∈ place} α_ti, (), for the words whose place in the photo is known.

    Summed over those words and divided by the number of all words, so that each weighs as much as a word does in
    `caption_loss`.

    distribution: α, (batch, captions, time, locations).
    targets: (batch, captions, time) ids.
    named: (vocabulary,) bool, the words that name what the places show.
    places: (batch, locations) bool, all False for a photo of which nothing is known.

    Source: the sum is what Liu et al. 2017 (arXiv:1605.09553) measure as a word's attention correctness; to teach it
    they take the cross-entropy to a map spread over the place, which asks for all of it to be looked at.
    """
    inside = torch.einsum("bctl,bl->bct", distribution, places.to(distribution.dtype))
    known = named[targets] & places.any(1)[:, None, None]
    return -(inside.clamp_min(1e-6).log() * known).sum() / (targets != PAD).sum()


class Baseline:
    """Keep a moving average of the log-probability of each word of the vocabulary, to compare a reward with.

    means: (vocabulary,), NaN for words that have not been met.

    Xu et al. 2015 §4.1 keep one average of whole captions. Most of a caption's log-probability is how hard its words
    are to guess wherever one looks; an average per word takes that away too, and still no location has a say in it.
    """

    def __init__(self, words: int) -> None:
        self.means = torch.full((words,), torch.nan)

    def reward_to_go(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return what is left of log p(y | s, a) at each word, less what was to be expected; update the averages.

        A location can change its own word and those after it only, so the words before it are no part of its reward:
        they would add noise, and nothing on average. Returned without gradient, (batch, captions, time), 0 for `<pad>`.

        logits: (batch, captions, time, vocabulary).
        targets: (batch, captions, time) ids.
        """
        with torch.no_grad():
            loss = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, reduction="none")
            means, words = self.means.to(loss.device), targets.flatten()
            sums, counts = (torch.zeros_like(means).index_add_(0, words, x) for x in (-loss, torch.ones_like(loss)))
            now = sums / counts  # NaN for words that are not here
            means = means.where(~means.isnan(), now)  # a word's first time
            gain = ((-loss - means[words]) * (words != PAD)).view(targets.shape)
            self.means = means.lerp(now, 1 - BASELINE_DECAY).where(~now.isnan(), means).cpu()
            return gain.flip(2).cumsum(2).flip(2) * (targets != PAD)


def hard_attention_loss(
    reading: Reading,
    targets: Tensor,
    advantage: Tensor,
    reward_weight: float = REWARD_WEIGHT,
    entropy_weight: float = ENTROPY_WEIGHT,
) -> Tensor:
    """Return the REINFORCE and entropy terms of hard attention, (), a mean over words.

    The product of advantage and ∇ log p(s | a) is, together with ∇ log p(y | s, a), an unbiased estimate of the
    gradient of the expected log-likelihood where reward_weight is 1. Images that were shown the expected context chose
    nothing, and add only their entropy.

    reading: by hard attention, of the sentences in targets.
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
