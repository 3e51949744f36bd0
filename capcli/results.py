"""What captioning gives: plain values and numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class ImageError(Exception):
    """An image that cannot be read, or for which something else cannot be done."""

    def __init__(self, path: str, reason: str, kind: str | None = None) -> None:
        """Keep what a line and a row say of it.

        path: of the image, as it was given.
        reason: for the image's line and row.
        kind: the reason without what differs from image to image, for the summary; None is the reason itself.
        """
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.kind = kind or reason


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth value
class AttentionMap:
    """Hold where a decoder looked, word by word.

    weights: (words, rows, columns), each word's summing to 1.
    gates: (words,), Xu et al.'s β_t in 0 … 1, or None.
    cell_offset: the encoder's, which says what part of the picture a cell describes; see `model.config.EncoderKind`.
    """

    weights: np.ndarray
    gates: np.ndarray | None
    cell_offset: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """Hold one sentence for an image.

    text: as printed.
    words: its words.
    word_log_probs: natural logarithms, one for each word and one for `<end>`.
    log_prob: their sum.
    score: log_prob / nᵅ + W × agreement, where n counts `<end>` too, α is the length penalty, and agreement is the
        sentence's cosine with the photo; nothing is added if the checkpoint cannot compare them.
    attention_map: where the decoder looked; None for one without attention.
    """

    text: str
    words: tuple[str, ...]
    word_log_probs: tuple[float, ...]
    log_prob: float
    score: float
    attention_map: AttentionMap | None = None

    @property
    def attention(self) -> np.ndarray | None:
        """Return the attention weights, (words, rows, columns), or None."""
        return self.attention_map.weights if self.attention_map else None

    @property
    def gates(self) -> np.ndarray | None:
        """Return Xu et al.'s β_t, (words,), or None."""
        return self.attention_map.gates if self.attention_map else None

    @property
    def cell_offset(self) -> float:
        """Return the attention map's cell_offset, 0 without attention."""
        return self.attention_map.cell_offset if self.attention_map else 0.0


@dataclass(frozen=True)
class Kind:
    """Hold a kind of thing that an image shows.

    name: as people call it.
    probability: of being what the image shows above all, 0 to 1.
    """

    name: str
    probability: float


class HasBest:
    """Give the attributes of one candidate as one's own."""

    @property
    def best(self) -> Candidate:
        """Return that candidate."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """Return `best.text`."""
        return self.best.text

    @property
    def words(self) -> tuple[str, ...]:
        """Return `best.words`."""
        return self.best.words

    @property
    def word_log_probs(self) -> tuple[float, ...]:
        """Return `best.word_log_probs`."""
        return self.best.word_log_probs

    @property
    def log_prob(self) -> float:
        """Return `best.log_prob`."""
        return self.best.log_prob

    @property
    def score(self) -> float:
        """Return `best.score`."""
        return self.best.score

    @property
    def attention(self) -> np.ndarray | None:
        """Return `best.attention`."""
        return self.best.attention

    @property
    def gates(self) -> np.ndarray | None:
        """Return `best.gates`."""
        return self.best.gates

    @property
    def cell_offset(self) -> float:
        """Return `best.cell_offset`."""
        return self.best.cell_offset


@dataclass(frozen=True, eq=False)
class Caption(HasBest):
    """Hold the sentences for an image; the best one's attributes are the caption's own.

    path: of the image, as it was given.
    candidates: the best `num`, best first; one at least.
    gain: how much more likely the image makes the best one than a blank picture does, as a difference of natural
        log-probabilities; None where the checkpoint does not say what gain is too little.
    confidence: how likely the best one is right, 0 to 1; None where the checkpoint cannot tell.
    unsure: whether it is more likely wrong than right, the gain is too little, or the image has one colour only.
    photo: the image upright, RGB, where it was asked to be kept, or None.
    kinds: what the image shows above all, by the encoder alone, the likeliest first; empty where the checkpoint knows
        no kinds, or is sure of none.
    keywords: what it shows, as `outputs.keywords` takes them from the candidates; None where nobody asked for them.
    """

    path: str
    candidates: tuple[Candidate, ...]
    gain: float | None = None
    confidence: float | None = None
    unsure: bool = False
    photo: Image.Image | None = None
    keywords: tuple[str, ...] | None = None
    kinds: tuple[Kind, ...] = ()

    @property
    def best(self) -> Candidate:
        """Return the candidate with the highest score."""
        return self.candidates[0]
