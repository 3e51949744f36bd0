"""Saying less: what content words cost a sentence when those of a beam are ranked; nothing here needs PyTorch.

Each thing that a caption names is one more that may be wrong, and a score that is a mean over words does not know it.
"""

from __future__ import annotations

import numpy as np

from capcli.model.english import FUNCTION_WORDS
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary

AGAIN = 10  # what a content word that comes again costs, in first ones: people hardly repeat any


def content_words(vocabulary: Vocabulary) -> np.ndarray:
    """Return which words of a vocabulary name something, (vocabulary,) bool."""
    named = [word not in FUNCTION_WORDS for word in vocabulary.words]
    return np.array([False] * len(SPECIAL_WORDS) + named[len(SPECIAL_WORDS) :])


def cost(words: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Return how many content words sentences have, with AGAIN more for each that comes again, (…,).

    words: (…, time) ids, `<pad>` behind the last word.
    content: what `content_words` returned.
    """
    named = content[words]
    in_order = np.sort(np.where(named, words, -1), axis=-1)
    again = (in_order[..., 1:] == in_order[..., :-1]) & (in_order[..., 1:] >= 0)
    total: np.ndarray = named.sum(-1) + AGAIN * again.sum(-1)
    return total
