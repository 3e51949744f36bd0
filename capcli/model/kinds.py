"""What the encoder tells apart by itself: a linear head on its global vector, with the names that people use for kinds.

An encoder that was trained to name ImageNet's kinds still knows most of them after it was fine-tuned for captions.
Nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capcli.model.english import names
from capcli.results import Kind

if TYPE_CHECKING:
    import numpy as np

SHOWN_FROM = 0.05  # the least probability of a kind that is told


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
        return np.stack([shares[:, list(named.classes)].sum(1) for named in self.names], 1)

    def told(self, probabilities: np.ndarray, most: int = 5) -> list[tuple[Kind, ...]]:
        """Return for each image the likeliest kinds, the likeliest first, down to SHOWN_FROM.

        probabilities: (images, kinds).
        most: kinds for an image, 1 or more.
        """
        found = []
        for row in probabilities:
            best = row.argsort()[: -most - 1 : -1]
            found.append(tuple(Kind(self.names[i].name, float(row[i])) for i in best if row[i] >= SHOWN_FROM))
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
