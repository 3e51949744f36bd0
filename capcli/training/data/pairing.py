"""Sentences without photos, each lent the training photo with the most similar captions."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from capcli.model.vocabulary import tokenize
from capcli.training.data.datasets import Photo, read_lines

MOST = 60  # sentences per photo, lest a few common photos take them all
NEAREST = 3  # photos tried for a sentence, the nearest first
COMMON = 0.2  # terms in a larger share of photos' captions say little and cost most of the time …
FEW = 100  # … unless they are so few
BLOCK = 2000  # sentences compared at once


def read_sentences(files: Sequence[str]) -> list[str]:
    """Return the lines of text files that hold a word.

    files: UTF-8, one sentence per line.

    Raises DataError.
    """
    return [line for file in files for line in read_lines(Path(file)) if tokenize(line)]


def lend_photos(sentences: Sequence[str], photos: Sequence[Photo]) -> list[list[str]]:
    """Return the sentences lent to each photo.

    They are matched with photos' captions by the cosine of tf-idf vectors of one and two words. Photos' own captions
    are left out, as are sentences sharing no telling word with any photo.
    """
    from scipy import sparse  # here, so that only training with sentences needs it

    own = {tuple(tokenize(caption)) for photo in photos for caption in photo.captions}
    if not sentences:
        return [[] for _ in photos]
    told = [words for sentence in sentences if tuple(words := tokenize(sentence)) not in own]
    said = [Counter(term for caption in photo.captions for term in terms(tokenize(caption))) for photo in photos]
    counts = Counter(term for document in said for term in document)
    kept = (term for term, count in counts.items() if count <= max(COMMON * len(photos), FEW))
    columns = {term: column for column, term in enumerate(kept)}
    rarity = {term: math.log(len(photos) / counts[term]) for term in columns}

    def vectors(documents: Sequence[Counter[str]]) -> sparse.csr_matrix:
        rows, places, values = [], [], []
        for row, document in enumerate(documents):
            for term, count in document.items():
                if term in columns:
                    rows.append(row)
                    places.append(columns[term])
                    values.append((1 + math.log(count)) * rarity[term])
        matrix = sparse.csr_matrix((np.array(values, np.float32), (rows, places)), (len(documents), len(columns)))
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
        return sparse.diags(1 / np.maximum(norms, 1e-9)).astype(np.float32) @ matrix

    random.Random(0).shuffle(told)  # so that no file comes first and takes the photos
    against = vectors(said).T.tocsr()
    lent: list[list[str]] = [[] for _ in photos]
    for begin in range(0, len(told), BLOCK):
        block = told[begin : begin + BLOCK]
        cosines = (vectors([Counter(terms(words)) for words in block]) @ against).tocsr()
        for row, words in enumerate(block):
            near = slice(cosines.indptr[row], cosines.indptr[row + 1])
            best = np.argsort(-cosines.data[near], kind="stable")[:NEAREST]
            free = (photo for photo in cosines.indices[near][best].tolist() if len(lent[photo]) < MOST)
            if (photo := next(free, None)) is not None:
                lent[photo].append(" ".join(words))
    return lent


def terms(words: Sequence[str]) -> list[str]:
    """Return the words and the pairs of neighbouring words."""
    return [*words, *(f"{first} {second}" for first, second in itertools.pairwise(words))]
