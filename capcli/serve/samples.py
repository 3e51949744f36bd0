"""Sample answers for the API's description, made by what makes the answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from capcli.explaining.printing import as_row as explained_row
from capcli.explaining.reading import Explanation
from capcli.maps.folders import attention_record
from capcli.outputs.rows import as_row as caption_row
from capcli.results import AttentionMap, Candidate, Caption, Kind

WEIGHTS = np.array([[[0.1, 0.2], [0.3, 0.4]], [[0.05, 0.15], [0.6, 0.2]], [[0.25, 0.25], [0.25, 0.25]]])
WORDS = ("a", "sleeping", "cat")
SLEEPING = Candidate(
    "a sleeping cat", WORDS, (-0.21, -1.83, -0.34, -0.52), -2.9, 0.71, AttentionMap(WEIGHTS, None, 0.5)
)
SITTING = Candidate("a cat on a bed", ("a", "cat", "on", "a", "bed"), (-0.2,) * 6, -3.4, 0.64)
CAPTION = Caption("photo.jpg", (SLEEPING, SITTING), 6.1, 0.83, kinds=(Kind("cat", 0.91),))
EXPLANATION = Explanation(
    CAPTION,
    unknown=(False,) * 3,
    gains=(0.0, 2.9, 3.3, 0.1),
    favourites=("a", "cat", "cat", "<end>"),
    favourite_log_probs=(-0.21, -0.88, -0.34, -0.52),
    nouns=(None,) * 4,
    agreement=0.58,
)


def samples() -> dict[str, Any]:
    """Return a sample answer for each operation, by its id."""
    return {
        "caption": [caption_row(CAPTION, 2)],
        "explain": [explained_row(EXPLANATION)],
        "attention": attention_record("photo.jpg", SLEEPING),
    }
