"""A gate that tells photos like the taught ones from others."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRICTNESS = 3e-3  # of the gate's weights


def separate(taught: Tensor, others: Tensor) -> nn.Linear:
    """Return a layer whose sign says whether a photo is like the taught ones, by logistic regression.

    Both classes weigh the same, whatever their sizes.

    taught, others: (photos, channels), global vectors.
    """
    mean, scale = others.mean(0), (others.std(0, correction=0) + 1e-3) * others.shape[1] ** 0.5 / 10
    inputs = (torch.cat([taught, others]) - mean) / scale
    labels = torch.cat([torch.ones(len(taught)), torch.zeros(len(others))])
    shares = torch.cat([torch.full((len(part),), 0.5 / len(part)) for part in (taught, others)])
    layer = nn.Linear(inputs.shape[1], 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        errors = F.binary_cross_entropy_with_logits(layer(inputs).squeeze(1), labels, reduction="none")
        total = errors @ shares + STRICTNESS * layer.weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        layer.weight /= scale
        layer.bias.sub_(layer.weight @ mean)
    return layer.requires_grad_(False)
