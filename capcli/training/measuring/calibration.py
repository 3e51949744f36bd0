"""Calibration: does confidence tell how good a caption is, and gain whether there was anything to see?"""

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
    """Return how well scores rank captions by CIDEr.

    "auc" is the chance that a caption of the better half by CIDEr outscores one of the worse half (0.5 is random; None
    for a single caption). "thresholds" has, for each of SHARES, the least score that keeps that share of captions, and
    their mean CIDEr.

    Source: Hanley & McNeil 1982, for the area under the ROC curve.
    """
    if len(scores) < 2:
        return {"auc": None, "thresholds": []}
    ranking, quality = torch.tensor(scores, dtype=torch.double), torch.tensor(cider, dtype=torch.double)
    thresholds = []
    for share in SHARES:
        lowest = float(ranking.quantile(1 - share))
        kept = quality[ranking >= lowest]
        thresholds.append({"least": round(lowest, 3), "kept": share, "cider": float(kept.mean())})
    return {"auc": auc(ranking, quality > quality.median()), "thresholds": thresholds}


def least_gain(gains: Sequence[float]) -> float:
    """Return the gain, in nats, reached by all but UNSURE_SHARE of real photos' captions.

    gains: of real photos' captions, one or more.
    """
    # Pictures with nothing to see gain less: a picture of one colour makes no sentence much likelier than another such
    # picture does. Their scores need not be lower, as a model can be confident about nothing.
    return round(float(torch.tensor(gains, dtype=torch.double).quantile(UNSURE_SHARE)), 2)


def agrees(row: dict[str, Any]) -> bool:
    """Return whether people's captions hold at least half of a caption's content words.

    row: with "caption" and "references".
    """
    # By eye, about as many captions are right.
    held = {stem(word) for reference in row["references"] for word in tokenize(reference)}
    content = [stem(word) for word in tokenize(row["caption"]) if word not in FUNCTION_WORDS]
    return sum(word in held for word in content) >= len(content) / 2


def reliability(confidence: Sequence[float], right: Sequence[bool]) -> list[dict[str, Any]]:
    """Return for each tenth of confidence with captions in it how many there are, and what share of them is right.

    confidence: of captions, 0 to 1.
    right: whether they are, in the same order.
    """
    tenths = [min(9, int(10 * likely)) for likely in confidence]
    return [
        {"from": tenth / 10, "captions": len(among), "confidence": mean(confidence, among), "right": mean(right, among)}
        for tenth in range(10)
        if (among := [i for i, each in enumerate(tenths) if each == tenth])
    ]


def mean(values: Sequence[float], among: Sequence[int]) -> float:
    """Return the mean of some values, to four digits. among: their places."""
    return round(sum(values[i] for i in among) / len(among), 4)


def fit_confidence(clues: Sequence[Sequence[float]], right: Sequence[bool]) -> list[float]:
    """Return weights of the clues, then a bias, for `model.confidence`'s probability that a caption is right.

    Fitted by logistic regression with slight weight decay; empty for fewer than LEAST_CAPTIONS or if all are alike.

    clues: per caption.
    right: whether each caption is.
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
    """Return the gains of captions of 64 single-colour pictures, spread over RGB."""
    size = captioner.config.image_size
    colours = np.array(list(itertools.product((0, 85, 170, 255), repeat=3)), np.uint8)
    found = []
    for some in np.split(colours, len(colours) // 16):
        pixels = np.broadcast_to(some[:, None, None], (len(some), size, size, 3)).copy()
        captions = captioner.caption_pixels(pixels, [""] * len(some), 1, captioner.options)
        found += [caption.best for caption in captions]
    return captioner.gains(found)


def auc(scores: Tensor, good: Tensor) -> float | None:
    """Return the area under the ROC curve, 0 to 1, ties counting half; None if all or none are good.

    scores: (n,).
    good: (n,) bool, which scores should be high.
    """
    if good.all() or not good.any():
        return None
    ours, theirs = scores[good].unsqueeze(1), scores[~good].unsqueeze(0)
    return float(((ours > theirs).double() + 0.5 * (ours == theirs)).mean())
