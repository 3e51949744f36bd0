"""95 % confidence intervals by the bootstrap over photos (Efron 1979; for BLEU, Koehn 2004)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

RESAMPLES = 1000
CONFIDENCE = 0.95
Interval = tuple[float, float]


def resample(photos: int, seed: int = 0) -> Tensor:
    """Return how often each photo occurs in each resample, (RESAMPLES, photos). photos: 1 or more."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(photos, (RESAMPLES, photos), generator=generator)
    return torch.zeros(RESAMPLES, photos, dtype=torch.double).scatter_add_(1, drawn, torch.ones_like(drawn).double())


def interval(values: Tensor) -> Interval:
    """Return the bounds of the middle CONFIDENCE of values. values: (RESAMPLES,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=values.dtype)).tolist()
    return low, high


def mean_interval(times: Tensor, each: Sequence[float], score: float) -> Interval:
    """Return the interval of a score that is a mean over photos, or nearly (METEOR).

    times: from `resample`.
    each: (photos,), every photo's score.
    score: measured, to which the resamples' means are shifted.
    """
    values = torch.tensor(each, dtype=torch.double)
    return interval(times @ values / len(values) - values.mean() + score)


def bleu_intervals(times: Tensor, counts: Sequence[dict[str, Any]]) -> list[Interval]:
    """Return the intervals of BLEU-1 to BLEU-4, in percent.

    times: from `resample`.
    counts: pycocoevalcap's, per photo: "correct" and "guess", n-grams for n from 1 to 4; "testlen", words of the
        caption; "reflen", words of the reference closest in length.
    """
    rows = [[*c["correct"], *c["guess"], c["testlen"], c["reflen"]] for c in counts]
    return [interval(values) for values in bleu(times @ torch.tensor(rows, dtype=torch.double)).unbind(1)]


def bleu(totals: Tensor) -> Tensor:
    """Return BLEU-1 to BLEU-4 in percent, (…, 4).

    totals: (…, 10), sums over photos of the counts in `bleu_intervals`, in that order.

    Source: Papineni et al. 2002.
    """
    correct, guesses, ours, theirs = totals.split([4, 4, 1, 1], -1)
    orders = torch.arange(1, 5, dtype=totals.dtype)
    log_precision = (correct / guesses.clamp_min(1)).log().cumsum(-1) / orders
    brevity = (1 - theirs / ours.clamp_min(1)).clamp_max(0)
    return 100 * (log_precision + brevity).exp()
