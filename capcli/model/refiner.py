"""Self-attention over the annotation grid: annotation vectors see each other."""

from __future__ import annotations

from torch import Tensor, nn

from capcli.model.config import REFINER_HEADS, REFINER_WIDTH

DROPOUT = 0.1  # the paper's, and the most; less if the decoder has less


class Refiner(nn.Module):
    """Refine annotation vectors by one Transformer encoder layer, normalised at the entrances.

    At first it changes nothing, so that a trained decoder can get one.

    Source: Vaswani et al. 2017 §3.1, with the normalisation of Xiong et al. 2020 (arXiv:2002.04745); refining an
    image's features before decoding is Huang et al. 2019 §3.2.1 (arXiv:1908.06954).
    """

    def __init__(self, size: int, dropout: float) -> None:
        """Initialise the layers.

        size: channels of annotation vectors, a multiple of REFINER_HEADS.
        dropout: the decoder's, 0 to 1; here at most DROPOUT.
        """
        super().__init__()
        self.norm, self.norm_wide = nn.LayerNorm(size), nn.LayerNorm(size)
        self.read = nn.Linear(size, 3 * size)  # queries, keys and values
        self.join = nn.Linear(size, size)
        self.widen, self.narrow = nn.Linear(size, REFINER_WIDTH * size), nn.Linear(REFINER_WIDTH * size, size)
        self.dropout = nn.Dropout()
        self.set_dropout(dropout)
        for layer in (self.read, self.widen):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.join, self.narrow):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def set_dropout(self, probability: float) -> None:
        """Set the probability of dropout. probability: the decoder's, see `__init__`."""
        self.dropout.p = min(probability, DROPOUT)

    def forward(self, annotations: Tensor) -> Tensor:
        """Return refined annotation vectors. annotations: (batch, locations, size)."""
        # No positions: the encoder's padding tells vectors where they are, and learnt positions did not help.
        batch, locations, size = annotations.shape
        parts = self.read(self.norm(annotations)).view(batch, locations, 3, REFINER_HEADS, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        dropout = self.dropout.p if self.training else 0.0
        seen = nn.functional.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        seen = seen.transpose(1, 2).reshape(batch, locations, size)
        annotations = annotations + self.dropout(self.join(seen))
        wide = self.dropout(self.widen(self.norm_wide(annotations)).relu())
        return annotations + self.dropout(self.narrow(wide))
