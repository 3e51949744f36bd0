"""Metrics of captions: BLEU, METEOR, ROUGE-L and CIDEr as pycocoevalcap computes them, variety and diversity."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pycocoevalcap  # noqa: F401  # imported now, so that its absence is noticed before the work and not after it
import torch

from capcli.model.vocabulary import tokenize
from capcli.training.bootstrap import bleu_intervals, mean_interval, resample
from capcli.training.self_critical import CiderD, Vectors


def have_java() -> bool:
    """Return whether METEOR and the PTB tokenizer, which are Java programs, can run."""
    return shutil.which("java") is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what pycocoevalcap and its Java programs print to stdout and stderr."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, target)
                os.close(copy)


def ptb_tokenize(sentences: list[list[str]]) -> list[list[str]]:
    """Return sentences as the metrics compare them: words separated by single spaces.

    With Java this takes the COCO evaluation's Penn Treebank tokenizer, otherwise `vocabulary.tokenize`, which treats
    contractions and numbers differently.

    sentences: several for each photo.
    """
    if not have_java():
        return [[" ".join(tokenize(s)) for s in several] for several in sentences]
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with quiet():
        # split() also removes all characters that end a line for Java: one line too many, and each sentence after it
        # would be taken for another photo's.
        rows = {i: [{"caption": " ".join(s.split())} for s in several] for i, several in enumerate(sentences)}
        found = PTBTokenizer().tokenize(rows)
    return [found[i] for i in range(len(sentences))]


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]], meteor: bool = True) -> dict[str, Any]:
    """Return scores by name, in percent as papers report them (CIDEr is multiplied by 100 too).

    "cider_each" is a list with the CIDEr of each photo, and "intervals" has the 95 % confidence interval of each score
    by name, [low, high]; METEOR's is approximate.

    captions: one per photo.
    references: people's captions of each photo.
    meteor: whether to compute METEOR, which takes the longest, if there is Java.

    Raises ImportError without the `train` extra.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge

    tokenized = ptb_tokenize([[caption] for caption in captions] + [list(several) for several in references])
    ours = dict(enumerate(tokenized[: len(captions)]))
    theirs = dict(enumerate(tokenized[len(captions) :]))
    times = resample(len(captions))
    scorer = BleuScorer(n=4)
    for photo, (caption,) in ours.items():
        scorer += (caption, theirs[photo])
    bleu, _ = scorer.compute_score("closest")
    scores: dict[str, Any] = {f"bleu_{n + 1}": 100 * value for n, value in enumerate(bleu)}
    for counts in scorer.ctest:
        counts["reflen"] = scorer._single_reflen(counts["reflen"], "closest", counts["testlen"])
    found = bleu_intervals(times, scorer.ctest)
    intervals = {f"bleu_{n + 1}": ends for n, ends in enumerate(found)}

    def add(name: str, score: float, each: Sequence[float]) -> None:
        scores[name] = 100 * float(score)
        intervals[name] = mean_interval(times, [100 * float(value) for value in each], scores[name])

    add("rouge_l", *Rouge().compute_score(theirs, ours))
    cider, each = Cider().compute_score(theirs, ours)
    add("cider", cider, each)
    scores["cider_each"] = [100 * float(value) for value in each]
    if meteor and have_java():
        with quiet():
            score, parts = Meteor().compute_score(theirs, ours)
        add("meteor", score, parts)
    scores["intervals"] = {name: [round(end, 2) for end in ends] for name, ends in intervals.items()}
    scores["tokenizer"] = "PTB" if have_java() else "capcli"
    return scores


def describe(captions: Sequence[str], training_captions: set[str]) -> dict[str, float]:
    """Return statistics of captions that the scores do not show.

    "distinct_words" is how many different words there are, "mean_length" the mean number of words in a caption,
    "repetition" the percentage of captions in which a word follows itself or a pair of words occurs twice, and "unseen"
    the percentage that do not occur among the training captions.

    captions: one per photo.
    training_captions: each with its tokens joined by spaces.
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
    """Return how much the candidates for a photo differ, averaged over photos.

    "distinct_share" is the number of different words in a photo's candidates, in percent of all their words.
    "self_cider" is −log_m(√λ_1 / Σ √λ_i), where λ are the eigenvalues of the matrix of CIDEr between the candidates: 0
    if they are equal, 1 if they share nothing.

    candidates: m sentences for each photo, 2 or more, the same number for all.
    references: people's captions of each photo.

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
    """Return the mean over n of the cosine between two sentences' tf-idf vectors of n-grams, CIDEr / 10."""
    total = 0.0
    for (x, norm_x), (y, norm_y) in zip(a, b, strict=True):
        if norm_x and norm_y:
            total += sum(weight * y[gram] for gram, weight in x.items() if gram in y) / (norm_x * norm_y)
    return total / len(a)


def repeats(words: Sequence[str]) -> bool:
    """Return whether a word follows itself or a pair of words occurs twice."""
    pairs = list(itertools.pairwise(words))
    return any(a == b for a, b in pairs) or len(set(pairs)) < len(pairs)
