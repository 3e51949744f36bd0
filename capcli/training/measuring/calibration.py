"""Calibration: does a caption's score tell how good it is, and its gain whether there was anything to see?"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from capcli.captioner import Captioner
from capcli.model.english import FUNCTION_WORDS, stem
from capcli.model.vocabulary import tokenize

SHARES = (0.75, 0.5, 0.25)
LEAST_CAPTIONS = 200  # to fit confidence to; fewer say too little
DECAY = 1e-3
UNSURE_SHARE = 0.02  # the share of real photos whose captions may be marked unsure


def calibrate(scores: Sequence[float], cider: Sequence[float | None]) -> dict[str, Any]:
    """Return how well scores rank captions by their CIDEr.

    The result has "auc", the probability that a caption of the better half by CIDEr scores higher than one of the worse
    half (0.5 is no better than chance), and "thresholds": for each of SHARES, the --min-score that keeps this share of
    the captions, and their mean CIDEr.

    scores, cider: of the same captions, in the same order; of a single caption nothing can be said.

    Source: Hanley & McNeil 1982, for the area under the ROC curve.
    """
    if len(scores) < 2:
        return {"auc": None, "thresholds": []}
    ranking, quality = torch.tensor(scores, dtype=torch.double), torch.tensor(cider, dtype=torch.double)
    thresholds = []
    for share in SHARES:
        lowest = float(ranking.quantile(1 - share))
        kept = quality[ranking >= lowest]
        thresholds.append({"min_score": round(lowest, 3), "kept": share, "cider": float(kept.mean())})
    return {"auc": auc(ranking, quality > quality.median()), "thresholds": thresholds}


def least_gain(gains: Sequence[float]) -> float:
    """Return the gain, in natural logarithms, that all but UNSURE_SHARE of the captions of real photos reach.

    Pictures with nothing to see have lower gains, since a picture of one colour makes no sentence much more likely than
    another such picture does. Their scores need not be lower: a model can be confident about nothing.

    gains: of captions of real photos, one or more.
    """
    return round(float(torch.tensor(gains, dtype=torch.double).quantile(UNSURE_SHARE)), 2)


def agrees(row: dict[str, Any]) -> bool:
    """Return whether a caption is right as far as people's captions tell: they hold at least half its content words.

    By eye about as many captions are right. row: with "caption" and "references".
    """
    held = {stem(word) for reference in row["references"] for word in tokenize(reference)}
    content = [stem(word) for word in tokenize(row["caption"]) if word not in FUNCTION_WORDS]
    return sum(word in held for word in content) >= len(content) / 2


def fit_confidence(clues: Sequence[Sequence[float]], right: Sequence[bool]) -> list[float]:
    """Return the weights of clues, and the bias, with which `model.confidence` tells how likely a caption is right.

    Logistic regression, with a little weight decay. Empty for fewer than LEAST_CAPTIONS, or where all are alike.

    clues: of each caption.
    right: whether it is.
    """
    if len(clues) < LEAST_CAPTIONS or len(set(right)) < 2:
        return []
    inputs, targets = torch.tensor(clues, dtype=torch.double), torch.tensor(right, dtype=torch.double)
    mean, scale = inputs.mean(0), inputs.std(0) + 1e-6
    inputs = torch.cat([(inputs - mean) / scale, torch.ones(len(inputs), 1, dtype=torch.double)], 1)
    weights = torch.zeros(inputs.shape[1], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = binary_cross_entropy_with_logits(inputs @ weights, targets) + DECAY * weights[:-1].square().sum()
        fit.backward()
        return fit

    optimizer.step(loss)
    slopes = weights.detach()[:-1] / scale
    return [round(float(weight), 4) for weight in (*slopes, weights.detach()[-1] - slopes @ mean)]


def gains_of_one_colour(captioner: Captioner) -> list[float]:
    """Return the gains of the captions of 64 pictures of a single colour, whose colours are spread over RGB."""
    size = captioner.config.image_size
    colours = np.array(list(itertools.product((0, 85, 170, 255), repeat=3)), np.uint8)
    found = []
    for some in np.split(colours, len(colours) // 16):
        pixels = np.broadcast_to(some[:, None, None], (len(some), size, size, 3)).copy()
        captions = captioner.caption_pixels(pixels, [""] * len(some), 1, captioner.options)
        found += [caption.best for caption in captions]
    return captioner.gains(found)


def auc(scores: Tensor, good: Tensor) -> float | None:
    """Return the area under the ROC curve, 0 to 1, ties counting half; None if all are good, or none is.

    scores: (n,).
    good: (n,) bool, which of the scores should be high.
    """
    if good.all() or not good.any():
        return None
    ours, theirs = scores[good].unsqueeze(1), scores[~good].unsqueeze(0)
    return float(((ours > theirs).double() + 0.5 * (ours == theirs)).mean())
