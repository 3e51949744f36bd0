"""Learners, side by side: of all photos, and of those outside each fold."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.optim import AdamW

from capcli.model.decoders import Decoder
from capcli.model.vocabulary import PAD
from capcli.progress import progress
from capcli.training.data.datasets import Batch, epoch_batches
from capcli.training.data.features import is_mirrored
from capcli.training.learning.losses import caption_loss, summed_loss
from capcli.training.teaching.course import Course
from capcli.training.teaching.dropout import draw_alone
from capcli.training.teaching.lesson import Lesson
from capcli.training.teaching.views import VIEWS
from capcli.training.watching.watching import Watcher

EPOCHS = 12  # at least
LEAST_STEPS = 84  # over all epochs: a few photos are shown more often
LEARNING_RATE = 3e-4
LABEL_SMOOTHING = 0.1
BATCH = 16  # captions taught at once
REPLAYED = 16  # remembered photos beside each batch
REPLAY_WEIGHT = 0.3
WARM_UP = 0.1  # share of the steps in which the learning rate rises
GRADIENT_NORM = 1.0
MEASURED = 3  # passes between measurements of the held-out loss, each of which takes a tenth of a pass


def passes_over(photos: int) -> int:
    """Return how often to show the photos."""
    return max(EPOCHS, math.ceil(LEAST_STEPS / math.ceil(photos / BATCH)))


def learn_all(
    console: Console, watcher: Watcher, course: Course, lesson: Lesson, folds: list[list[int]], workers: int
) -> tuple[Decoder, list[Decoder]]:
    """Return a decoder that has learnt all photos, and for each fold one that has learnt the photos outside it.

    Teaching does not stop where the loss of photos held out is lowest: a name is not learnt by then (none of ten new
    photos of it had it, where all ten have it now), nor a manner of speaking.

    Each learner computes with one thread: threads that share an operation wait for each other, and on a machine with
    other work that multiplied the time by hundreds.

    folds: photos that are held out together.
    workers: learners at work at the same time.
    """
    everything = list(range(len(lesson.captions)))
    shown = [everything, *([i for i in everything if i not in fold] for fold in folds)]
    decoders = [copy.deepcopy(lesson.decoder) for _ in shown]
    learners = [
        learn(lesson, decoder, photos, course.passes, number)
        for number, (decoder, photos) in enumerate(zip(decoders, shown, strict=True))
    ]
    each = sum(map(len, shown))
    what = "teaching, and trying it on photos held out" if folds else "teaching"
    with ThreadPoolExecutor(workers) as pool, progress(console, what, course.passes * each, "photos") as advance:
        for number in range(1, course.passes + 1):
            loss, *others = pool.map(next, learners)
            course.taught.append(loss)
            if folds:
                measured = number % MEASURED == 0 or number in (1, course.passes)
                held_out = held_out_loss(lesson, decoders[1:], folds) if measured else None
                course.tried.append((sum(others) / len(folds), held_out))
            advance(each, f"pass {number}/{course.passes}, loss {loss:.3f}")
            course.tell(watcher)
    return decoders[0], decoders[1:]


def learn(lesson: Lesson, decoder: Decoder, photos: Sequence[int], epochs: int, number: int = 0) -> Iterator[float]:
    """Train a decoder, yielding the mean loss of its photos' captions after each epoch.

    photos: indices of the lesson's photos to show.
    epochs: over which the learning rate rises and falls once.
    number: tells learners apart, which draw differently.
    """
    draw_alone(decoder, lesson.seed * 101 + number)
    decoder.requires_grad_(True).train()
    optimizer = AdamW(decoder.parameters(), lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    draw = replays(lesson)
    views, steps, step = [is_mirrored(view) for view in range(VIEWS)], 0, 0
    for epoch in range(epochs):
        batches = list(epoch_batches(lesson.captions, list(photos), views, BATCH, lesson.seed * 1009 + epoch))
        steps, total = steps or epochs * len(batches), 0.0
        for batch in batches:
            rate = min(1, (step + 1) / (WARM_UP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate
            loss = read(lesson, decoder, batch)
            total += loss.item()
            rows = torch.tensor([next(draw) for _ in range(min(REPLAYED, len(lesson.targets)))])
            loss = loss + REPLAY_WEIGHT * divergence(lesson, decoder, rows)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(decoder.parameters(), GRADIENT_NORM)
            optimizer.step()
            step = min(step + 1, steps - 1)
        yield total / len(batches)


def replays(lesson: Lesson) -> Iterator[int]:
    """Yield remembered photos in random order, over and over."""
    rows = list(range(len(lesson.targets)))
    random.Random(lesson.seed).shuffle(rows)
    yield from cycle(rows)


def read(lesson: Lesson, decoder: Decoder, batch: Batch) -> Tensor:
    """Return the mean loss per word, (), of a taught batch."""
    logits = decoder(lesson.features.take(batch.photos * VIEWS + batch.views), batch.words).logits
    return caption_loss(logits, batch.targets, LABEL_SMOOTHING)


def divergence(lesson: Lesson, decoder: Decoder, rows: Tensor) -> Tensor:
    """Return KL(before ‖ decoder) of the next word, (), averaged over words of remembered photos' captions.

    rows: of the photos.
    """
    targets = lesson.targets[rows]
    time = int((targets != PAD).sum(2).max())
    said = lesson.expected[rows][:, :, :time].float()
    logits = decoder(lesson.replay.take(rows), lesson.sentences[rows][:, :, :time]).logits
    now = logits.log_softmax(-1)[..., : said.shape[-1]]
    mask = targets[:, :, :time] != PAD
    return ((said.exp() * (said - now)).sum(-1) * mask).sum() / mask.sum()


def held_out_loss(lesson: Lesson, decoders: list[Decoder], folds: list[list[int]]) -> float:
    """Return the mean loss per word of all photos' captions, each by the decoder it was held out from."""
    total, words = 0.0, 0
    for decoder, fold in zip(decoders, folds, strict=True):
        features, captions = lesson.features.take(torch.tensor(fold) * VIEWS), [lesson.captions[i][0] for i in fold]
        loss, count = summed_loss(decoder.eval(), features, captions, BATCH, LABEL_SMOOTHING)
        decoder.train()
        total, words = total + loss, words + count
    return total / words
