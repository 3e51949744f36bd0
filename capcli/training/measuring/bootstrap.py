"""95 % confidence intervals by the bootstrap over photos (Efron 1979; for BLEU and for two models, Koehn 2004)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def bleu_intervals(times: Tensor, counts: Sequence[Sequence[float]]) -> list[Interval]:
    """Return the intervals of BLEU-1 to BLEU-4, in percent.

    times: from `resample`.
    counts: (photos, 10), pycocoevalcap's: n-grams found in a reference, for n from 1 to 4; all n-grams, likewise; words
        of the caption; words of the reference closest in length.
    """
    return [interval(values) for values in bleu(times @ torch.tensor(counts, dtype=torch.double)).unbind(1)]


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


def paired(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], measured: Mapping[str, tuple[float, float]]
) -> dict[str, dict[str, Any]]:
    """Return the difference of two models' scores, by name: "difference", its "interval" and "p".

    Both are resampled alike, so that photos hard for both widen no interval. "p" is two-sided: twice the share of
    resamples in which the difference has the other sign, or is 0.

    ours, theirs: each photo's scores, "each" of `metrics.score_captions`.
    measured: our score and theirs on all photos, by name.
    """
    times, found = resample(len(ours)), {}
    for name, (our, their) in measured.items():
        values = resampled(times, ours, name) - resampled(times, theirs, name)
        if not name.startswith("bleu"):  # a mean over photos, or close to one; see `mean_interval`
            values += our - their - float(values.mean())
        tail = min(int((values <= 0).sum()), int((values >= 0).sum()))
        low, high = interval(values)
        found[name] = {
            "difference": round(our - their, 2),
            "interval": [round(low, 2), round(high, 2)],
            "p": round(min(1.0, 2 * (tail + 1) / (RESAMPLES + 1)), 4),
        }
    return found


def resampled(times: Tensor, each: Sequence[Mapping[str, Any]], name: str) -> Tensor:
    """Return a score's value in each resample, (RESAMPLES,), in percent. times, each: see `resample` and `paired`."""
    if name.startswith("bleu"):
        totals = times @ torch.tensor([scores["bleu_counts"] for scores in each], dtype=torch.double)
        return bleu(totals)[:, int(name[-1]) - 1]
    return times @ torch.tensor([scores[name] for scores in each], dtype=torch.double) / len(each)
