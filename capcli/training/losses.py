"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from capcli.vocabulary import PAD


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
