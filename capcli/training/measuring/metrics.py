"""Metrics of captions: pycocoevalcap's BLEU, METEOR, ROUGE-L and CIDEr; variety and diversity."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from capcli.model.vocabulary import tokenize
from capcli.training.learning.self_critical import CiderD, Vectors
from capcli.training.measuring.bootstrap import bleu_intervals, mean_interval, resample
from capcli.training.measuring.java import JavaError, have_java, meteor_scores, ptb_words


def tokenized(sentences: list[list[str]]) -> tuple[list[list[str]], str]:
    """Return sentences as words joined by single spaces, as metrics compare them, and the tokenizer's name.

    With a working Java it is the COCO evaluation's Penn Treebank tokenizer, otherwise `vocabulary.tokenize`, which
    treats contractions and numbers differently.

    sentences: several per photo.
    """
    if have_java():
        # split() also removes all of Java's line ends: one line too many would shift every later sentence to another
        # photo.
        with contextlib.suppress(JavaError):
            words = iter(ptb_words([" ".join(s.split()) for several in sentences for s in several]))
            return [list(itertools.islice(words, len(several))) for several in sentences], "PTB"
    return [[" ".join(tokenize(s)) for s in several] for several in sentences], "capcli"


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]], meteor: bool = True) -> dict[str, Any]:
    """Return scores by name, in percent as papers report them (CIDEr × 100 too).

    "each" has each photo's own scores by name and its "bleu_counts", see `bootstrap.bleu`; "intervals" has each score's
    95 % confidence interval, [low, high], approximate for METEOR. A single photo has no CIDEr: "cider" is missing, and
    None in "each".

    captions: one per photo.
    references: people's captions per photo.
    meteor: whether to compute METEOR, the slowest, if Java works.

    Raises ImportError without the `train` extra.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    words, tokenizer = tokenized([[caption] for caption in captions] + [list(several) for several in references])
    ours = dict(enumerate(words[: len(captions)]))
    theirs = dict(enumerate(words[len(captions) :]))
    times = resample(len(captions))
    scorer = BleuScorer(n=4)
    for photo, (caption,) in ours.items():
        scorer += (caption, theirs[photo])
    bleu, bleu_each = scorer.compute_score("closest")
    scores: dict[str, Any] = {f"bleu_{n + 1}": 100 * value for n, value in enumerate(bleu)}
    found: dict[str, Sequence[Any]] = {
        f"bleu_{n + 1}": [100 * value for value in values] for n, values in enumerate(bleu_each)
    }
    for counts in scorer.ctest:
        counts["reflen"] = scorer._single_reflen(counts["reflen"], "closest", counts["testlen"])
    found["bleu_counts"] = [[*c["correct"], *c["guess"], c["testlen"], c["reflen"]] for c in scorer.ctest]
    intervals = {f"bleu_{n + 1}": ends for n, ends in enumerate(bleu_intervals(times, found["bleu_counts"]))}

    def add(name: str, score: float, each: Sequence[float]) -> None:
        scores[name], found[name] = 100 * float(score), [100 * float(value) for value in each]
        intervals[name] = mean_interval(times, found[name], scores[name])

    add("rouge_l", *Rouge().compute_score(theirs, ours))
    found["cider"] = [None] * len(captions)
    if len(captions) > 1:  # words are weighted by their rarity among photos, which a single one cannot show
        add("cider", *Cider().compute_score(theirs, ours))
    if meteor and have_java():
        with contextlib.suppress(JavaError):
            add("meteor", *meteor_scores([caption for (caption,) in ours.values()], list(theirs.values())))
    scores["intervals"] = {name: [round(end, 2) for end in ends] for name, ends in intervals.items()}
    scores["each"] = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    scores["tokenizer"] = tokenizer
    return scores


def describe(captions: Sequence[str], training_captions: set[str]) -> dict[str, float]:
    """Return statistics that scores do not show.

    "distinct_words" counts different words, "mean_length" is in words, "repetition" is the percentage of captions in
    which a word follows itself or a pair of words recurs, "unseen" that of captions not among the training captions.

    training_captions: as tokens joined by spaces.
    """
    tokens = [tokenize(caption) for caption in captions]
    count = max(len(tokens), 1)
    return {
        "distinct_words": len({word for words in tokens for word in words}),
        "mean_length": math.fsum(map(len, tokens)) / count,
        "repetition": 100 * sum(map(repeats, tokens)) / count,
        "unseen": 100 * sum(" ".join(words) not in training_captions for words in tokens) / count,
    }


def diversity(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return how much a photo's candidates differ, averaged over photos.

    "distinct_share" is the percentage of different words among all of a photo's candidates' words. "self_cider" is
    −log_m(√λ_1 / Σ √λ_i), with λ the eigenvalues of the matrix of CIDEr between candidates: 0 if equal, 1 if they share
    nothing.

    candidates: m sentences per photo, 2 or more.
    references: people's captions per photo.

    Source: Wang & Chan 2019 (arXiv:1903.12020) §3.2.
    """
    cider = CiderD([[tokenize(sentence) for sentence in several] for several in references])
    shares, scores = [], []
    for sentences in candidates:
        tokens = [tokenize(sentence) for sentence in sentences]
        shares.append(len({word for words in tokens for word in words}) / max(1, sum(map(len, tokens))))
        vectors = [cider.vectors(words) for words in tokens]
        kernel = torch.tensor([[similarity(a, b) for b in vectors] for a in vectors], dtype=torch.double)
        roots = torch.linalg.eigvalsh(kernel).clamp_min(0).sqrt()
        scores.append(-math.log(max(float(roots[-1] / roots.sum()), 1 / len(roots)), len(roots)))
    count = max(len(candidates), 1)
    return {"distinct_share": 100 * math.fsum(shares) / count, "self_cider": math.fsum(scores) / count}


def similarity(a: Vectors, b: Vectors) -> float:
    """Return CIDEr / 10 of two sentences: the mean over n of their tf-idf n-gram vectors' cosine."""
    total = 0.0
    for (x, norm_x), (y, norm_y) in zip(a, b, strict=True):
        if norm_x and norm_y:
            total += sum(weight * y[gram] for gram, weight in x.items() if gram in y) / (norm_x * norm_y)
    return total / len(a)


def repeats(words: Sequence[str]) -> bool:
    """Return whether a word follows itself or a pair of words recurs."""
    pairs = list(itertools.pairwise(words))
    return any(a == b for a, b in pairs) or len(set(pairs)) < len(pairs)
