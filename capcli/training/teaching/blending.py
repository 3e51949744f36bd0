"""How much of what was learnt is kept."""

from __future__ import annotations

import copy

from torch import Tensor

from capcli.model.decoders import Decoder
from capcli.training.teaching.lesson import Lesson


def blend(lesson: Lesson, taught: Decoder, share: float) -> Decoder:
    """Return a decoder for inference, with weights between those before and those taught.

    Lessons of few photos hold for others only in part. A new word, taught by nothing else, is kept whole.

    taught: has learnt the lesson.
    share: of the way to `taught`, 0 to 1.

    Source: averaging weights is Wortsman et al. 2022 §3 (arXiv:2109.01903).
    """
    mixed = copy.deepcopy(taught).requires_grad_(False).eval()
    for weight, before in zip(mixed.parameters(), lesson.decoder.parameters(), strict=True):
        known = weight[: len(lesson.old)] if weight is mixed.embedding.weight or weight is mixed.output_bias else weight
        known.lerp_(before.detach()[: len(known)], 1 - share)
    return mixed


def least_sufficient(scores: dict[float, Tensor]) -> float:
    """Return the least share that scores within a standard error of the best.

    scores: (photos,) for each share, of the same photos.

    Source: the one-standard-error rule, Breiman, Friedman, Olshen & Stone 1984 §3.4.3.
    """
    best = max(scores.values(), key=lambda some: some.mean().item())
    for share in sorted(scores):
        lost = best - scores[share]
        if lost.mean() <= lost.std() / len(lost) ** 0.5:
            break
    return share
