"""Soft attention over annotation vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SoftAttention(nn.Module):
    """Deterministic attention (Bahdanau et al. 2015; Xu et al. 2015 §4.2).

    e_ti = wᵀ tanh(W h_{t-1} + W' x_i), α_t = softmax(e_t), context = Σ_i α_ti x_i.
    """

    def __init__(self, hidden_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)  # softmax ignores a bias

    def forward(self, hidden: Tensor, keys: Tensor, annotations: Tensor) -> tuple[Tensor, Tensor]:
        """One glance per beam at its image.

        hidden: (batch, beams, hidden) h_{t-1}; keys: (batch, locations, attention), `self.key(annotations)`, which
        depends on the image alone and so is computed once; annotations: (batch, locations, annotation).
        Returns context (batch, beams, annotation) and weights (batch, beams, locations), each row summing to 1.
        """
        mixed = torch.tanh(self.query(hidden).unsqueeze(2) + keys.unsqueeze(1))
        weights = self.score(mixed).squeeze(3).float().softmax(2)
        return weights.to(annotations.dtype) @ annotations, weights
