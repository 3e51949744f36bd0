"""Keywords: nouns and attributes in captions, by a stop list, as these are simple and a tagger is heavy; and kinds.

A word counts unless it is left out, or ends like a participle or adverb (-ing, -ed, -ly) and is not kept. The lists in
keywords.toml are from the bundled vocabulary's 3,542 words, each judged by hand by its main use in captions: `swing` is
a noun, `swings` a verb. They cover most of any English vocabulary.
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
from capcli.results import Candidate, Caption, ImageError, Kind

SURE_KIND = 0.7  # the probability from which a kind is a keyword too: about as often right as a caption's words
MOST, LEAST_SCORE = 5, 0.1  # defaults: keywords per image, and the least score
WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’-][^\W_]+)*")
PARTICIPLE = re.compile(r"[a-z-]+(?:ing|ed|ly)")


class Lists(NamedTuple):
    """Hold the word lists; a compound is a pair of words."""

    left_out: frozenset[str]
    kept: frozenset[str]
    attributes: frozenset[str]
    compounds: frozenset[tuple[str, ...]]


@cache
def lists() -> Lists:
    """Return the lists from keywords.toml."""
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
    """Return captions with keywords, and failures unchanged.

    num: candidates to keep per image, 1 or more.
    most, min_score: as in `keywords_of`; None for the usual min_score.
    """
    least = LEAST_SCORE if min_score is None else min_score
    return [each if isinstance(each, Exception) else with_keywords(each, num, most, least) for each in results]


def with_keywords(caption: Caption, num: int, most: int = MOST, min_score: float = LEAST_SCORE) -> Caption:
    """Return a caption with keywords from its kinds and all its candidates, but only the first `num` of these.

    most, min_score: as in `keywords_of`.
    """
    keywords = keywords_of(caption.candidates, most, min_score, caption.kinds)
    return replace(caption, candidates=caption.candidates[:num], keywords=keywords)


def keywords_of(
    candidates: Sequence[Candidate], most: int = MOST, min_score: float = LEAST_SCORE, kinds: Sequence[Kind] = ()
) -> tuple[str, ...]:
    """Return an image's keywords, best first.

    A keyword's score is the model's probability for it, the highest in each caption and 0 in captions without it,
    averaged with the captions' probabilities, scaled to sum to 1; a kind's is its own. Of a plural in -s and its
    singular, or a compound and its parts, only the better one counts.

    candidates: the image's captions.
    most: keywords to return, 1 or more.
    min_score: the least score, 0 … 1.
    kinds: of the image; those from SURE_KIND on are keywords.
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
    for kind in kinds:
        if kind.probability >= SURE_KIND:
            scores[kind.name] = max(scores.get(kind.name, 0.0), kind.probability)
    keywords: list[str] = []
    for keyword in sorted(scores, key=lambda keyword: -scores[keyword]):
        if scores[keyword] >= min_score and not any(are_alike(keyword, better) for better in keywords):
            keywords.append(keyword)
    return tuple(keywords[:most])


def are_alike(keyword: str, other: str) -> bool:
    """Return whether one of two keywords is enough."""
    words, others = set(keyword.split()), set(other.split())
    plurals = (f"{keyword}s", f"{keyword}es"), (f"{other}s", f"{other}es")
    return words < others or words > others or other in plurals[0] or keyword in plurals[1]


def nouns_and_attributes(words: Sequence[str], log_probs: Sequence[float]) -> Iterable[tuple[str, float]]:
    """Yield a caption's keywords and compounds with their log-probabilities.

    log_probs: natural logarithms, one per word; more are ignored. A compound has its last word's.
    """
    for place, keyword in keywords_in(words):
        yield keyword, log_probs[place]


def keywords_in(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield a caption's keywords and compounds, each after the place of its last word."""
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
    """Yield as `keywords_in` does, without attributes."""
    return ((place, keyword) for place, keyword in keywords_in(words) if keyword not in lists().attributes)


def is_keyword(word: str) -> bool:
    """Return whether the lists take a word for a noun or attribute."""
    if not WORD.fullmatch(word) or word in lists().left_out:
        return False
    return word in lists().kept or not PARTICIPLE.fullmatch(word)
