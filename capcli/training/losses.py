"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from capcli.decoders import Reading
from capcli.vocabulary import PAD

ENTROPY_WEIGHT = 0.002  # λ_e
REWARD_WEIGHT = 0.1  # λ_r; with 1 the noise of the estimate drowns what the words themselves teach


def caption_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy per word, `<pad>` not counted.

    logits: (batch, captions, time, vocabulary); targets: (batch, captions, time). Label smoothing as Szegedy et al.
    2016 §7.
    """
    return F.cross_entropy(
        logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, label_smoothing=label_smoothing
    )


def doubly_stochastic(attention: Tensor, targets: Tensor) -> Tensor:
    """Σ_i (1 − Σ_t α_ti)², a mean over captions (Xu et al. 2015 §4.2.1): every place is to be looked at once.

    attention: (batch, captions, time, locations); steps whose target is `<pad>` do not count.
    """
    looked = (attention * (targets != PAD).unsqueeze(3)).sum(2)
    return torch.square(1 - looked).sum(2).mean()


def attention_supervision(distribution: Tensor, targets: Tensor, named: Tensor, places: Tensor) -> Tensor:
    """−log Σ_{i ∈ place} α_ti for the words whose place in the photo is known (Liu et al. 2017, arXiv:1605.09553).

    Summed over those words and divided by the number of all words, so that each weighs as much as a word does in
    `caption_loss`. distribution: (batch, captions, time, locations); targets: (batch, captions, time); named:
    (vocabulary,) bool, the words that name what the places show; places: (batch, locations) bool, all False for a photo
    of which nothing is known.
    """
    inside = torch.einsum("bctl,bl->bct", distribution, places.to(distribution.dtype))
    known = named[targets] & places.any(1)[:, None, None]
    return -(inside.clamp_min(1e-6).log() * known).sum() / (targets != PAD).sum()


def reward_to_go(logits: Tensor, targets: Tensor, baseline: float) -> tuple[Tensor, float]:
    """What is left of log p(y | s, a) at each word, less what was to be expected; no gradient.

    A location can change its own word and those after it only, so the words before it are no part of its reward: they
    would add noise, and nothing on average. baseline: the moving average of a word's log-probability. Returns
    (batch, captions, time), 0 for `<pad>`, and this batch's mean log-probability of a word for the next average.
    """
    with torch.no_grad():
        loss = F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, reduction="none")
        mask = targets != PAD
        gain = (-loss.view(targets.shape) - baseline) * mask
        return gain.flip(2).cumsum(2).flip(2) * mask, float(-loss.sum() / mask.sum())


def hard_attention_loss(
    reading: Reading,
    targets: Tensor,
    advantage: Tensor,
    reward_weight: float = REWARD_WEIGHT,
    entropy_weight: float = ENTROPY_WEIGHT,
) -> Tensor:
    """REINFORCE and entropy terms of hard attention, a mean over words (Xu et al. 2015 eq. 12).

    advantage: from `reward_to_go`. Its product with ∇ log p(s | a) is, together with ∇ log p(y | s, a), an unbiased
    estimate of the gradient of the expected log-likelihood where reward_weight, Xu et al.'s λ_r, is 1. Images that were
    shown the expected context chose nothing, and add only their entropy.
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
