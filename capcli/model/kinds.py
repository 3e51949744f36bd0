"""Kinds that the encoder tells apart: a linear head on its global vector, with everyday names, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from capcli.model.english import names
from capcli.results import Kind

if TYPE_CHECKING:
    import numpy as np

# An encoder trained to name ImageNet's kinds still knows most of them after fine-tuning for captions.
MOST, TOLD_FROM = 5, 0.05  # kinds told per image, and their least probability


@dataclass(frozen=True)
class Named:
    """Hold a kind's name and classes.

    name: one or more words.
    broader: what a caption may say instead; plurals need no mention.
    classes: indices into the head's outputs.
    """

    name: str
    broader: tuple[str, ...]
    classes: tuple[int, ...]

    def is_said(self, words: Sequence[str]) -> bool:
        """Return whether a sentence's words name the kind, or a broader one, singular or plural."""
        return any(names(words, name.split()) for name in (self.name, *self.broader))


@dataclass(frozen=True, eq=False)
class Kinds:
    """Hold a head.

    names: of kinds; classes without a kind are never named.
    weight: (classes, channels).
    bias: (classes,).
    """

    names: tuple[Named, ...]
    weight: np.ndarray
    bias: np.ndarray

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Return each kind's probability, (images, kinds), 0 to 1. vectors: (images, channels), global ones."""
        import numpy as np

        logits = vectors @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        probabilities: np.ndarray = shares @ self.membership
        return probabilities

    @cached_property
    def by_name(self) -> dict[str, Named]:
        """Return the kinds by name."""
        return {named.name: named for named in self.names}

    @cached_property
    def membership(self) -> np.ndarray:
        """Return which classes are of which kinds, (classes, kinds), as zeros and ones."""
        import numpy as np

        found = np.zeros((len(self.bias), len(self.names)), np.float32)
        for index, named in enumerate(self.names):
            found[list(named.classes), index] = 1
        return found

    def told(self, vectors: np.ndarray) -> list[tuple[Kind, ...]]:
        """Return up to MOST kinds per image, likeliest first, down to TOLD_FROM.

        vectors: (images, channels), global ones.
        """
        found = []
        for row in self.probabilities(vectors):
            best = row.argsort()[: -MOST - 1 : -1]
            found.append(tuple(Kind(self.names[i].name, float(row[i])) for i in best if row[i] >= TOLD_FROM))
        return found


def read_names(lines: Iterable[str]) -> tuple[Named, ...]:
    """Return kinds from lines such as `polar bear < bear: 296`, with classes as `3 5-7`; `#` begins a comment.

    Raises ValueError for any other line.
    """
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        names, colon, classes = line.partition(":")
        name, _, broader = names.partition("<")
        if not (colon and name.strip() and classes.split()):
            raise ValueError(f"{line.strip()!r} is not NAME < BROADER, …: CLASSES")
        numbers: list[int] = []
        for part in classes.split():
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
        found.append(Named(name.strip(), tuple(w.strip() for w in broader.split(",") if w.strip()), tuple(numbers)))
    return tuple(found)
