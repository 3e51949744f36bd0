"""Soft and hard attention over annotation vectors."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional as F


class SoftAttention(nn.Module):
    """Deterministic attention (Bahdanau et al. 2015; Xu et al. 2015 §4.2).

    e_ti = wᵀ tanh(W h_{t-1} + W' x_i), α_t = softmax(e_t), context = Σ_i α_ti x_i.
    """

    def __init__(self, hidden_size: int, annotation_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)  # softmax ignores a bias

    def keys(self, annotations: Tensor) -> Tensor:
        """2 W' x_i, (batch, locations, attention): it depends on the image alone, and so is computed once."""
        return 2 * self.key(annotations)

    def distribution(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """α_t, (batch, beams, locations), each row summing to 1.

        hidden: (batch, beams, hidden) h_{t-1}; keys: from `keys`.
        """
        # tanh(x) = 2σ(2x) − 1, and softmax ignores the −1, which every location has: PyTorch's σ on CPUs takes a fifth
        # of the time of its tanh, which would be a third of the search.
        mixed = (self.query(hidden).mul(2).unsqueeze(2) + keys.unsqueeze(1)).sigmoid_()
        return self.score(mixed).squeeze(3).mul(2).float().softmax(2)

    def choose(self, distribution: Tensor, generator: Generator | None = None) -> Tensor:
        """The weights with which the annotation vectors are summed: here the distribution itself."""
        return distribution


class HardAttention(SoftAttention):
    """Stochastic attention (Xu et al. 2015 §4.1): one location s_t ~ Categorical(α_t) is kept, z_t = x_{s_t}.

    Training draws it, from PyTorch's own generator. Otherwise it is drawn from a generator where one is given; without,
    the most probable location is taken, which is how captions are made by default.
    """

    def choose(self, distribution: Tensor, generator: Generator | None = None) -> Tensor:
        """One-hot weights, (batch, beams, locations). No gradient passes through the choice."""
        if self.training or generator is not None:
            rows = distribution.detach().flatten(0, 1)
            chosen = rows.multinomial(1, generator=generator).view(distribution.shape[:2])
        else:
            chosen = distribution.argmax(2)
        return F.one_hot(chosen, distribution.shape[2]).to(distribution.dtype)
