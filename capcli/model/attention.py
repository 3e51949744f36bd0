"""Soft and hard attention over annotation vectors."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional as F


class SoftAttention(nn.Module):
    """Weigh annotation vectors by their fit with the LSTM's state (deterministic attention).

    e_ti = wᵀ tanh(W h_{t-1} + W' x_i), α_t = softmax(e_t), context = Σ_i α_ti x_i.

    Source: Bahdanau et al. 2015; Xu et al. 2015 §4.2.
    """

    def __init__(self, hidden_size: int, annotation_size: int, attention_size: int) -> None:
        """Initialise the layers.

        hidden_size: channels of the LSTM's state h.
        annotation_size: channels of an annotation vector x.
        attention_size: channels in which they are compared.
        """
        super().__init__()
        self.query = nn.Linear(hidden_size, attention_size)
        self.key = nn.Linear(annotation_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)  # softmax would cancel a bias

    def keys(self, annotations: Tensor) -> Tensor:
        """Return 2 W' x_i, (batch, locations, attention), the same for all words of an image.

        annotations: (batch, locations, annotation_size), x_i.
        """
        return 2 * self.key(annotations)

    def distribution(self, hidden: Tensor, keys: Tensor) -> Tensor:
        """Return α_t, (batch, beams, locations) float32, rows summing to 1.

        hidden: (batch, beams, hidden), h_{t-1}.
        keys: from `keys`.
        """
        # tanh(x) = 2σ(2x) − 1, and softmax cancels the −1 that all locations share. On CPUs PyTorch's σ takes a fifth
        # of the time of its tanh, which would be a third of the search.
        mixed = (self.query(hidden).mul(2).unsqueeze(2) + keys.unsqueeze(1)).sigmoid_()
        return self.score(mixed).squeeze(3).mul(2).float().softmax(2)

    def choose(self, distribution: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the annotation vectors' weights: the distribution itself.

        distribution: (batch, beams, locations), α_t.
        generator: unused here; see HardAttention.
        """
        return distribution


class HardAttention(SoftAttention):
    """Look at one location only, s_t ~ Categorical(α_t), so that z_t = x_{s_t} (stochastic attention).

    The location is drawn at random in training, or if a generator is given; captioning takes the most probable by
    default.

    Source: Xu et al. 2015 §4.1.
    """

    def choose(self, distribution: Tensor, generator: Generator | None = None) -> Tensor:
        """Return one-hot weights, (batch, beams, locations), without a gradient.

        distribution: (batch, beams, locations), α_t.
        generator: draws locations; None uses PyTorch's global one in training, else the most probable locations.
        """
        if self.training or generator is not None:
            rows = distribution.detach().flatten(0, 1)
            chosen = rows.multinomial(1, generator=generator).view(distribution.shape[:2])
        else:
            chosen = distribution.argmax(2)
        return F.one_hot(chosen, distribution.shape[2]).to(distribution.dtype)
