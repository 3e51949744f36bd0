"""Averages of the weights: over time (Tarvainen & Valpola 2017), and with those that training began with.

The latter keeps what the first weights knew of the world beyond the new data (Wortsman et al. 2022, arXiv:2109.01903).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import Parameter


class WeightAverage:
    """Keep the moving average of some parameters.

    Early on only as much of the past counts as there is: after n updates the past weighs (1 + n) / (10 + n) at most.

    tensors: the averages, in the parameters' order.
    updates: how many there have been.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float, first_share: float = 0.0) -> None:
        """Begin with the parameters as they are now.

        parameters: on whatever device; the averages are kept there too.
        decay: what the past weighs in each update, 0 to 1; about 1 / (1 − decay) updates count.
        first_share: what the parameters as they are now weigh in `applied`, 0 to 1.
        """
        self.parameters, self.decay, self.first_share, self.updates = list(parameters), decay, first_share, 0
        self.first = [parameter.detach().clone() for parameter in self.parameters]
        self.tensors = [tensor.clone() for tensor in self.first]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, parameter in zip(self.tensors, self.parameters, strict=True):
            mean.lerp_(parameter, 1 - decay)
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place for a while, to measure or to save the model with them."""
        held = [parameter.detach().clone() for parameter in self.parameters]
        self.put([mean.lerp(first, self.first_share) for mean, first in zip(self.tensors, self.first, strict=True)])
        try:
            yield
        finally:
            self.put(held)

    @torch.no_grad()
    def put(self, tensors: list[Tensor]) -> None:
        """Give the parameters these values."""
        for parameter, tensor in zip(self.parameters, tensors, strict=True):
            parameter.copy_(tensor)

    def restore(self, tensors: list[Tensor], updates: int) -> None:
        """Go back to saved averages.

        tensors: as `WeightAverage.tensors` was then.
        updates: as `WeightAverage.updates` was then.
        """
        self.updates = updates
        for mean, saved in zip(self.tensors, tensors, strict=True):
            mean.copy_(saved)
