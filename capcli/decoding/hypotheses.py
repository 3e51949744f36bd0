"""Results of decoding, in PyTorch tensors or numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Array = TypeVar("Array")


@dataclass
class Hypotheses(Generic[Array]):
    """Hold a batch's finished sentences, best first; an image may have fewer than beams.

    words: (batch, beam, time) ids without `<end>`, then zeros (`<pad>`).
    lengths: (batch, beam) words, without `<end>`; 0 for no sentence.
    word_log_probs: (batch, beam, time + 1) natural logarithms of words and `<end>`, then zeros.
    scores: (batch, beam), log_prob / nᵅ; −inf for no sentence.
    attention: (batch, beam, time, locations), words' weights, then zeros; None without attention.
    gates: (batch, beam, time), words' β_t (Xu et al. 2015 §4.2.1), 0 to 1; None without attention.
    """

    words: Array
    lengths: Array
    word_log_probs: Array
    scores: Array
    attention: Array | None
    gates: Array | None

    def take(self, images: list[int]) -> Hypotheses[Array]:
        """Return the sentences of some images. images: positions in the batch."""
        return Hypotheses(**{name: None if value is None else value[images] for name, value in vars(self).items()})
