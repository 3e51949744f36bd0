"""A caption's probability of being right, by the search, the photo and the encoder's kinds.

PyTorch is not needed; `training.calibration` fits the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from capcli.model.english import FUNCTION_WORDS

if TYPE_CHECKING:
    from capcli.model.kinds import Named
    from capcli.results import Candidate, Kind

# Known about a caption; a higher number is surer.
CLUES = ("score", "gain of a word", "least content word", "kinds said")


def clues_of(candidate: Candidate, gain: float, kinds: Sequence[Kind], names: Mapping[str, Named]) -> list[float]:
    """Return a caption's CLUES.

    gain: in nats, over a blank picture.
    kinds: shown in the image, by the encoder alone.
    names: all kinds by name, with broader words that a caption may use.
    """
    content = [
        log_prob
        for word, log_prob in zip(candidate.words, candidate.word_log_probs, strict=False)
        if word not in FUNCTION_WORDS
    ]
    said = sum(kind.probability for kind in kinds if names[kind.name].is_said(candidate.words))
    return [candidate.score, gain / (len(candidate.words) + 1), min(content, default=0.0), said]


def confidence(clues: Sequence[float], weights: Sequence[float]) -> float:
    """Return the probability that a caption is right, 0 to 1.

    weights: of each clue, then the bias.
    """
    *slopes, bias = weights
    logit = bias + sum(slope * clue for slope, clue in zip(slopes, clues, strict=True))
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))
