"""What decoding gives, in tensors of PyTorch or arrays of numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Array = TypeVar("Array")


@dataclass
class Hypotheses(Generic[Array]):
    """Hold the finished sentences of a batch, best first.

    words: (batch, beam, time) ids without `<end>`, zero (`<pad>`) after the last word.
    lengths: (batch, beam) words, not counting `<end>`; 0 where an image has fewer sentences than beams.
    word_log_probs: (batch, beam, time + 1) natural logarithms, one per word, then that of `<end>`, then zeros.
    scores: (batch, beam), log_prob / nᵅ; −inf where an image has fewer sentences than beams.
    attention: (batch, beam, time, locations), each word's weights, zeros after the last word; None without attention.
    gates: (batch, beam, time), each word's β_t (Xu et al. 2015 §4.2.1), 0 to 1; None without attention.
    """

    words: Array
    lengths: Array
    word_log_probs: Array
    scores: Array
    attention: Array | None
    gates: Array | None

    def take(self, images: list[int]) -> Hypotheses[Array]:
        """Return those of some of the batch's images. images: positions in the batch."""
        return Hypotheses(**{name: None if value is None else value[images] for name, value in vars(self).items()})
