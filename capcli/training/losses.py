"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from capcli.decoders import Reading
from capcli.vocabulary import PAD

ENTROPY_WEIGHT = 0.002  # λ_e


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


def caption_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """log p(y | s, a) of each caption, a sum over its words, without gradient; (batch, captions)."""
    with torch.no_grad():
        log_probs = -F.cross_entropy(
            logits.flatten(0, 2).float(), targets.flatten(), ignore_index=PAD, reduction="none"
        )
    return log_probs.view(targets.shape).sum(2)


def hard_attention_loss(
    reading: Reading, targets: Tensor, advantage: Tensor, entropy_weight: float = ENTROPY_WEIGHT
) -> Tensor:
    """REINFORCE and entropy terms of hard attention, a mean over words (Xu et al. 2015 eq. 12).

    advantage: (batch, captions), log p(y | s, a) less the baseline. Its product with ∇ log p(s | a) is, together with
    ∇ log p(y | s, a), an unbiased estimate of the gradient of the expected log-likelihood. Images that were shown the
    expected context chose nothing, and add only their entropy.
    """
    assert reading.attention is not None
    assert reading.distribution is not None
    mask = targets != PAD
    log_distribution = reading.distribution.clamp_min(1e-12).log()
    chosen = reading.attention.detach() == 1
    choice = (log_distribution * chosen).sum(3) * mask
    entropy = -(reading.distribution * log_distribution).sum(3) * mask
    gain = advantage.unsqueeze(2) * choice + entropy_weight * entropy
    return -gain.sum() / mask.sum()
