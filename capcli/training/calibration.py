"""Does a caption's score tell how good the caption is?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SHARES = (0.75, 0.5, 0.25)


def calibrate(scores: Sequence[float], cider: Sequence[float]) -> dict[str, Any]:
    """How well scores rank captions by their CIDEr.

    auc: the probability that a caption of the better half by CIDEr scores higher than one of the worse half (Hanley &
    McNeil 1982; 0.5 is no better than chance). thresholds: for each of SHARES of the captions, the --min-score that
    keeps so many, and the mean CIDEr of those kept.
    """
    ranking, quality = torch.tensor(scores, dtype=torch.double), torch.tensor(cider, dtype=torch.double)
    thresholds = []
    for share in SHARES:
        lowest = float(ranking.quantile(1 - share))
        kept = quality[ranking >= lowest]
        thresholds.append({"min_score": round(lowest, 3), "kept": share, "cider": float(kept.mean())})
    return {"auc": auc(ranking, quality > quality.median()), "thresholds": thresholds}


def auc(scores: Tensor, good: Tensor) -> float | None:
    """Area under the ROC curve of scores, (n,), for good, (n,) bool; ties count half. None where all are alike."""
    if good.all() or not good.any():
        return None
    ours, theirs = scores[good].unsqueeze(1), scores[~good].unsqueeze(0)
    return float(((ours > theirs).double() + 0.5 * (ours == theirs)).mean())
