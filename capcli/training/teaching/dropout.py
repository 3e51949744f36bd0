"""Dropout for learners side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from capcli.model.decoders import Decoder


class SeededDropout(nn.Dropout):
    """Draw from a generator of its own, as the process's is shared by all threads."""

    def __init__(self, probability: float, generator: torch.Generator) -> None:
        super().__init__(probability)
        self.generator = generator

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or not self.p:
            return values
        return values * (torch.rand(values.shape, generator=self.generator) >= self.p) / (1 - self.p)

    def __deepcopy__(self, memo: object) -> nn.Dropout:
        return nn.Dropout(self.p).train(self.training)


def draw_alone(decoder: Decoder, seed: int) -> None:
    """Have a decoder's dropout draw from one generator that nothing else draws from."""
    generator = torch.Generator().manual_seed(seed)
    for module in list(decoder.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, SeededDropout(child.p, generator))
