"""Exponential moving average of the weights while they train (Polyak & Juditsky 1992; Tarvainen & Valpola 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import Parameter


class WeightAverage:
    """The moving average of some parameters.

    tensors: the averages, in the parameters' order. Early on only as much of the past counts as there is: after n
    updates the past weighs (1 + n) / (10 + n) at most.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float) -> None:
        """decay: what the past weighs in each update, 0 … 1; about 1 / (1 − decay) updates count."""
        self.parameters, self.decay, self.updates = list(parameters), decay, 0
        self.tensors = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, parameter in zip(self.tensors, self.parameters, strict=True):
            mean.lerp_(parameter, 1 - decay)
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the parameters' place, to measure or to save the model with them."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange parameters and averages."""
        for mean, parameter in zip(self.tensors, self.parameters, strict=True):
            held = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(held)

    def restore(self, tensors: list[Tensor], updates: int) -> None:
        """Go back to saved averages."""
        self.updates = updates
        for mean, saved in zip(self.tensors, tensors, strict=True):
            mean.copy_(saved)
