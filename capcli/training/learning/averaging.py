"""Averages of weights: over time (Tarvainen & Valpola 2017), and with those that training began with.

The latter keeps what those knew beyond the new data (Wortsman et al. 2022, arXiv:2109.01903).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import Parameter


class WeightAverage:
    """Keep the moving average of some parameters.

    Early on the past counts less: after n updates it weighs at most (1 + n) / (10 + n).

    tensors: averages, in the parameters' order.
    updates: so far.
    """

    def __init__(self, parameters: Iterable[Parameter], decay: float, first_share: float = 0.0) -> None:
        """Begin with the current parameters.

        decay: weight of the past in each update, 0 to 1; roughly the last 1 / (1 − decay) updates count.
        first_share: weight of the initial parameters in `applied`, 0 to 1.
        """
        self.parameters, self.decay, self.first_share, self.updates = list(parameters), decay, first_share, 0
        self.first = [parameter.detach().clone() for parameter in self.parameters]
        self.tensors = [tensor.clone() for tensor in self.first]

    @torch.no_grad()
    def update(self) -> None:
        """Fold the current parameters into the averages."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for mean, parameter in zip(self.tensors, self.parameters, strict=True):
            mean.lerp_(parameter, 1 - decay)
        self.updates += 1

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Use the averages as parameters in a `with` block, to measure or save them."""
        held = [parameter.detach().clone() for parameter in self.parameters]
        self.put([mean.lerp(first, self.first_share) for mean, first in zip(self.tensors, self.first, strict=True)])
        try:
            yield
        finally:
            self.put(held)

    @torch.no_grad()
    def put(self, tensors: list[Tensor]) -> None:
        """Set the parameters to these values."""
        for parameter, tensor in zip(self.parameters, tensors, strict=True):
            parameter.copy_(tensor)

    def restore(self, tensors: list[Tensor], updates: int) -> None:
        """Return to saved averages."""
        self.updates = updates
        for mean, saved in zip(self.tensors, tensors, strict=True):
            mean.copy_(saved)
