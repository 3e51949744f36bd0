"""What the encoder tells apart by itself: a linear head on its global vector, with the names that people use for kinds.

An encoder that was trained to name ImageNet's kinds still knows most of them after it was fine-tuned for captions.
Nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from capcli.model.english import names
from capcli.results import Kind

if TYPE_CHECKING:
    import numpy as np

MOST, TOLD_FROM = 5, 0.05  # kinds that are told of an image, and their least probability


@dataclass(frozen=True)
class Named:
    """Hold a kind's name, and the classes that are of this kind.

    name: one or several words.
    broader: what a caption may say instead; a kind's plural needs no mention.
    classes: indices into the head's outputs.
    """

    name: str
    broader: tuple[str, ...]
    classes: tuple[int, ...]

    def is_said(self, words: Sequence[str]) -> bool:
        """Return whether words of a sentence name the kind, or a broader one, in the singular or the plural."""
        return any(names(words, name.split()) for name in (self.name, *self.broader))


@dataclass(frozen=True, eq=False)
class Kinds:
    """Hold a head.

    names: of the kinds; classes that none of them has are never named.
    weight: (classes, channels).
    bias: (classes,).
    """

    names: tuple[Named, ...]
    weight: np.ndarray
    bias: np.ndarray

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Return the probability of each kind, (images, kinds), 0 to 1. vectors: (images, channels), global ones."""
        import numpy as np

        logits = vectors @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        probabilities: np.ndarray = shares @ self.membership
        return probabilities

    @cached_property
    def by_name(self) -> dict[str, Named]:
        """Return the kinds by their names."""
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
        """Return for each image up to MOST kinds, the likeliest first, down to TOLD_FROM.

        vectors: (images, channels), global ones.
        """
        found = []
        for row in self.probabilities(vectors):
            best = row.argsort()[: -MOST - 1 : -1]
            found.append(tuple(Kind(self.names[i].name, float(row[i])) for i in best if row[i] >= TOLD_FROM))
        return found


def read_names(lines: Iterable[str]) -> tuple[Named, ...]:
    """Return kinds from lines such as `polar bear < bear: 296`, with classes as `3 5-7`; `#` begins a comment.

    Raises ValueError for a line of another form.
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
