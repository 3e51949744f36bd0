"""Results of captioning: plain values and numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


class ImageError(Exception):
    """Report an image that cannot be read, or with which something else failed."""

    def __init__(self, path: str, reason: str, kind: str | None = None) -> None:
        """Keep the error's parts.

        path: of the image, as given.
        reason: for the image's line and row.
        kind: the reason, without differences between images, for the summary; None is the reason itself.
        """
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.kind = kind or reason


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class AttentionMap:
    """Hold where a decoder looked, word by word.

    weights: (words, rows, columns), each word's summing to 1.
    gates: (words,), Xu et al.'s β_t, 0 to 1, or None.
    cell_offset: see `model.config.EncoderKind`.
    """

    weights: np.ndarray
    gates: np.ndarray | None
    cell_offset: float


@dataclass(frozen=True, eq=False)
class Candidate:
    """Hold one sentence for an image.

    text: as printed.
    words: its words.
    word_log_probs: natural logarithms, one per word and one for `<end>`.
    log_prob: their sum.
    score: log_prob / nᵅ + W × agreement, where n counts `<end>` too, α is the length penalty, and agreement is the
        sentence's cosine with the photo; nothing is added if the checkpoint cannot compare them.
    attention_map: where the decoder looked; None without attention.
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
        """Return the attention map's cell_offset; 0 without attention."""
        return self.attention_map.cell_offset if self.attention_map else 0.0


@dataclass(frozen=True)
class Kind:
    """Hold a kind of thing shown in an image.

    name: in everyday words.
    probability: of being the main thing shown, 0 to 1.
    """

    name: str
    probability: float

    def __str__(self) -> str:
        """Return it as `polar bear 82%`."""
        return f"{self.name} {self.probability:.0%}"


class HasBest:
    """Pass on one candidate's attributes."""

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
    """Hold an image's sentences; the best one's attributes are the caption's own.

    path: of the image, as given.
    candidates: best first; one at least.
    gain: in nats, of the best over a blank picture; None if the checkpoint has no threshold for it.
    confidence: how likely the best is right, 0 to 1; None if the checkpoint cannot tell.
    unsure: whether it is likelier wrong than right (if the checkpoint cannot tell: its gain too little), or the image
        of one colour only.
    photo: upright, RGB, if asked for, or None.
    kinds: shown in the image by the encoder alone, likeliest first; empty if the checkpoint knows none, or is sure of
        none.
    keywords: from the candidates, see `outputs.keywords`; None if not asked for.
    by: how the checkpoint signs in metadata; empty for a person's words.
    """

    path: str
    candidates: tuple[Candidate, ...]
    gain: float | None = None
    confidence: float | None = None
    unsure: bool = False
    photo: Image.Image | None = None
    keywords: tuple[str, ...] | None = None
    kinds: tuple[Kind, ...] = ()
    by: str = ""

    @property
    def best(self) -> Candidate:
        """Return the candidate with the highest score."""
        return self.candidates[0]
