"""Photos held out in turn judge what was learnt."""

from __future__ import annotations

import torch
from rich.console import Console
from torch import Tensor

from capcli.model.decoders import Decoder
from capcli.model.vocabulary import tokenize
from capcli.progress import progress
from capcli.training.data.datasets import Photo
from capcli.training.learning.self_critical import CiderD
from capcli.training.teaching.blending import blend, least_sufficient
from capcli.training.teaching.course import Course
from capcli.training.teaching.describing import describe, look
from capcli.training.teaching.lesson import Lesson

SHARES = (0.6, 0.8, 1.0)  # of what was learnt; photos held out choose one, see `blend`
MANY = 100  # photos, from which all is kept: choosing, which chance may mislead, would cost more than it gains


def judge(
    console: Console,
    course: Course,
    lesson: Lesson,
    photos: list[Photo],
    decoders: list[Decoder],
    folds: list[list[int]],
) -> float:
    """Print and show how photos that are held out in turn are described, and return the share to keep.

    It is one of SHARES, or 0 where each of them describes the photos worse than the old decoder.

    photos: the lesson's.
    decoders: for each fold the one that has not seen it.
    """
    cider = CiderD([[tokenize(caption) for caption in photo.captions] for photo in photos])
    order = [i for fold in folds for i in fold]

    def scores(captions: dict[int, str]) -> Tensor:
        return torch.tensor([100 * cider.score(tokenize(captions[i]), i) for i in order])

    described: dict[float, dict[int, str]] = {}
    shares = SHARES if len(photos) < MANY else SHARES[-1:]
    with progress(console, "describing photos held out", (len(shares) + 1) * len(photos), "photos") as advance:
        for share in shares:
            described[share] = {}
            for decoder, fold in zip(decoders, folds, strict=True):
                described[share] |= describe(lesson, blend(lesson, decoder, share), lesson.vocabulary, fold)
                advance(len(fold))
        earlier = describe(lesson, lesson.before, lesson.old, order)
        advance(len(photos))
    scored = {share: scores(captions) for share, captions in described.items()}
    before = scores(earlier).mean().item()
    helpful = {share: some for share, some in scored.items() if some.mean().item() >= before}
    share = least_sufficient(helpful or scored)
    later, after = described[share], scored[share].mean().item()
    some = [fold[0] for fold in folds]
    seen = [
        look(lesson, blend(lesson, decoder, share), lesson.vocabulary, [i])[0]
        for decoder, i in zip(decoders, some, strict=True)
    ]
    console.print(
        f"photos held out in turn: CIDEr-D {before:.1f} before, {after:.1f} after, with {share:.0%} of what was learnt",
        markup=False,
    )
    course.gain = before, after
    course.show([photos[i] for i in some], look(lesson, lesson.before, lesson.old, some), seen)
    for i in some:
        yours = photos[i].captions[0]
        console.print(f"  {photos[i].path.name}: {earlier[i]} → {later[i]}  (yours: {yours})", markup=False)
    return share if helpful else 0
