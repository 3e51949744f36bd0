"""Saying less: the cost of content words in ranking a beam; PyTorch is not needed."""

from __future__ import annotations

import numpy as np

from capcli.model.english import FUNCTION_WORDS
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary

# Each thing that a caption names may be wrong, and a score averaged over words ignores that.
AGAIN = 10  # cost of a repeated content word, in first ones: people hardly repeat any


def content_words(vocabulary: Vocabulary) -> np.ndarray:
    """Return which words of a vocabulary name something, (vocabulary,) bool."""
    named = [word not in FUNCTION_WORDS for word in vocabulary.words]
    return np.array([False] * len(SPECIAL_WORDS) + named[len(SPECIAL_WORDS) :])


def cost(words: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Return sentences' counts of content words, each repeat adding AGAIN, (…,).

    words: (…, time) ids, padded with `<pad>`.
    content: from `content_words`.
    """
    named = content[words]
    in_order = np.sort(np.where(named, words, -1), axis=-1)
    again = (in_order[..., 1:] == in_order[..., :-1]) & (in_order[..., 1:] >= 0)
    total: np.ndarray = named.sum(-1) + AGAIN * again.sum(-1)
    return total
