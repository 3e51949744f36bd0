"""What captioning gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class ImageError(Exception):
    """An image that cannot be read, or for which something else cannot be done.

    reason: for its line and its row; kind: the reason without what differs from image to image, for the summary.
    """

    def __init__(self, path: str, reason: str, kind: str | None = None) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.kind = kind or reason


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth value
class Candidate:
    """One sentence that the beam search finished.

    text: as printed. words: its words; word_log_probs: natural logarithms, one per word and one for `<end>`; log_prob:
    their sum; score: log_prob / nᵅ, n counting `<end>` too, α the length penalty. attention: (words, rows, columns),
    each word's weights summing to 1, or None; gates: (words,), Xu et al.'s β_t in 0 … 1, or None. cell_offset: the
    encoder's, which says what part of the picture a cell of the attention describes.
    """

    text: str
    words: tuple[str, ...]
    word_log_probs: tuple[float, ...]
    log_prob: float
    score: float
    attention: Tensor | None
    gates: Tensor | None
    cell_offset: float


@dataclass(frozen=True, eq=False)
class Caption(Candidate):
    """The best candidate for an image. path: as it was given; candidates: the best `num`, this one first.

    gain: how much more likely the image makes the sentence than a blank picture does, as a difference of natural
    log-probabilities; None where the checkpoint does not say what gain is too little. unsure: whether it is, or the
    image has one colour only: there was next to nothing to see.
    """

    path: str
    candidates: tuple[Candidate, ...]
    gain: float | None = field(default=None, kw_only=True)
    unsure: bool = field(default=False, kw_only=True)
