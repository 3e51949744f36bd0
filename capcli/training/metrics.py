"""Caption metrics: BLEU, METEOR, ROUGE-L and CIDEr as pycocoevalcap computes them, and what BLEU hides."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pycocoevalcap  # noqa: F401  # now: without it there is to be an error before the work, not after it
import torch

from capcli.model.vocabulary import tokenize
from capcli.training.bootstrap import bleu_intervals, mean_interval, resample
from capcli.training.self_critical import CiderD, Vectors


def have_java() -> bool:
    """Return whether METEOR and the PTB tokenizer, which are Java programs, can run."""
    return shutil.which("java") is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what pycocoevalcap and its Java programs print away from stdout and stderr."""
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
    """Return sentences, several per photo, in the form that the metrics compare: words parted by single spaces.

    The Penn Treebank tokenizer of the COCO evaluation where Java is there, else `vocabulary.tokenize`, which differs
    on contractions and on numbers.
    """
    if not have_java():
        return [[" ".join(tokenize(s)) for s in several] for several in sentences]
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    with quiet():
        # Of every character at which Java may end a line: one more line, and all that follow are another photo's.
        rows = {i: [{"caption": " ".join(s.split())} for s in several] for i, several in enumerate(sentences)}
        found = PTBTokenizer().tokenize(rows)
    return [found[i] for i in range(len(sentences))]


def score_captions(captions: Sequence[str], references: Sequence[Sequence[str]], meteor: bool = True) -> dict[str, Any]:
    """Return scores by name in percent, as papers print them (CIDEr × 100 too).

    `cider` is joined by `cider_each`, a list over photos, and all by `intervals`: the 95 % confidence interval of each
    by its name, [low, high], METEOR's approximate.

    captions: one per photo.
    references: what people said of each photo.
    meteor: also METEOR, which takes longest and needs Java.

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
    """Return what the scores do not show, over the words of captions.

    distinct_words; mean_length in words; repetition, the percentage of captions in which a word follows itself or two
    words in a row come back; unseen, the percentage that no training caption equals word for word.

    captions: one per photo.
    training_captions: tokens joined by spaces.
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
    """Return how much the candidates of one photo differ, means over photos.

    distinct_share: different words of a photo's candidates, in percent of all their words. self_cider:
    −log_m(√λ_1 / Σ √λ_i) with the eigenvalues λ of the matrix of CIDEr between the candidates, 0 where they are equal
    and 1 where they share nothing.

    candidates: the same number m ≥ 2 of sentences for each photo.
    references: what people said of it.

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
