"""Keywords from captions: their nouns and attributes, by a stop list, since captions are simple and a tagger is heavy.

A word counts unless it is left out, or ends as participles and adverbs do (-ing, -ed, -ly) and is not kept. The lists,
in keywords.toml, were made by hand from the 3,542 words of the bundled vocabulary, each form by what it mostly is in
captions: `swing` is a noun, `swings` a verb. So a vocabulary of one's own, in English, is covered for the most part.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from capcli.model.english import FUNCTION_WORDS
from capcli.results import Candidate, Caption, ImageError

MOST, LEAST_SCORE = 5, 0.1  # keywords for an image, and the score of the last, unless something else is asked for
WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W_]+)*")
PARTICIPLE = re.compile(r"[a-z-]+(?:ing|ed|ly)")


class Lists(NamedTuple):
    """Hold the lists of words; a compound is a pair of them."""

    left_out: frozenset[str]
    kept: frozenset[str]
    attributes: frozenset[str]
    compounds: frozenset[tuple[str, ...]]


@cache
def lists() -> Lists:
    """Return the lists, from the file beside this one."""
    words = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return Lists(
        FUNCTION_WORDS.union(words["vague"].split(), words["verbs"].split()),
        frozenset(words["kept"].split()),
        frozenset(words["attributes"].split()),
        frozenset(tuple(compound.split()) for compound in words["compounds"].split(",")),
    )


def all_with_keywords(
    results: Iterable[Caption | ImageError], num: int, most: int, min_score: float | None = None
) -> list[Caption | ImageError]:
    """Return captions with keywords, and the failures among them as they are.

    num: candidates per image that are kept, 1 or more.
    most: keywords per image, 1 or more.
    min_score: keywords that score less are left out; None is the usual limit.
    """
    least = LEAST_SCORE if min_score is None else min_score
    return [each if isinstance(each, Exception) else with_keywords(each, num, most, least) for each in results]


def with_keywords(caption: Caption, num: int, most: int = MOST, min_score: float = LEAST_SCORE) -> Caption:
    """Return a caption with keywords from all of its candidates, but with the first `num` of these only.

    most, min_score: as `keywords_of` takes them.
    """
    keywords = keywords_of(caption.candidates, most, min_score)
    return replace(caption, candidates=caption.candidates[:num], keywords=keywords)


def keywords_of(candidates: Sequence[Candidate], most: int = MOST, min_score: float = LEAST_SCORE) -> tuple[str, ...]:
    """Return the keywords of an image, best first.

    A keyword's score is the probability that the model gave it where it said it, in each caption the highest if it said
    it twice, and 0 in captions without it; averaged over the captions by their probabilities, which are scaled to add
    up to 1. Of a plural in -s and its singular, and of a compound and its parts, only the better one is a keyword.

    candidates: the image's captions.
    most: keywords to return, 1 or more.
    min_score: keywords that score less are left out, 0 … 1.
    """
    best = max((candidate.log_prob for candidate in candidates), default=0.0)
    weights = [math.exp(candidate.log_prob - best) for candidate in candidates]
    scores: dict[str, float] = {}
    for candidate, weight in zip(candidates, weights, strict=True):
        found: dict[str, float] = {}
        for keyword, log_prob in nouns_and_attributes(candidate.words, candidate.word_log_probs):
            found[keyword] = max(found.get(keyword, 0.0), math.exp(log_prob))
        for keyword, probability in found.items():
            scores[keyword] = scores.get(keyword, 0.0) + weight / sum(weights) * probability
    keywords: list[str] = []
    for keyword in sorted(scores, key=lambda keyword: -scores[keyword]):
        if scores[keyword] >= min_score and not any(are_alike(keyword, better) for better in keywords):
            keywords.append(keyword)
    return tuple(keywords[:most])


def are_alike(keyword: str, other: str) -> bool:
    """Return whether one of two different keywords is enough."""
    words, others = set(keyword.split()), set(other.split())
    plurals = (f"{keyword}s", f"{keyword}es"), (f"{other}s", f"{other}es")
    return words < others or words > others or other in plurals[0] or keyword in plurals[1]


def nouns_and_attributes(words: Sequence[str], log_probs: Sequence[float]) -> Iterable[tuple[str, float]]:
    """Yield the words of a caption that are keywords, and the compounds, with their log-probabilities.

    words: of the caption.
    log_probs: natural logarithms, one for each word; more are ignored. A compound has that of its last word.
    """
    for place, keyword in keywords_in(words):
        yield keyword, log_probs[place]


def keywords_in(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the words of a caption that are keywords, and the compounds, each after the place of its last word."""
    place = 0
    while place < len(words):
        pair = tuple(words[place : place + 2])
        if pair in lists().compounds:
            yield place + 1, " ".join(pair)
            place += 2
            continue
        if is_keyword(words[place]):
            yield place, words[place]
        place += 1


def nouns_in(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield what `keywords_in` yields, without attributes."""
    return ((place, keyword) for place, keyword in keywords_in(words) if keyword not in lists().attributes)


def is_keyword(word: str) -> bool:
    """Return whether a word of a caption is a noun or an attribute, as far as the lists tell."""
    if not WORD.fullmatch(word) or word in lists().left_out:
        return False
    return word in lists().kept or not PARTICIPLE.fullmatch(word)
