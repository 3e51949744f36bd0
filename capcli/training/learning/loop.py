"""A training run from beginning to end, as started by `capcli train`."""

from __future__ import annotations

import contextlib
import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from capcli.maps.shown import sentence
from capcli.model.encoders import Features
from capcli.model.precision import autocast
from capcli.model.vocabulary import SPECIAL_WORDS
from capcli.progress import progress
from capcli.training.data.datasets import Batch, DataError
from capcli.training.learning.options import MIN_COUNT, TrainOptions
from capcli.training.learning.ranks import Ranks
from capcli.training.learning.setup import Setup, set_up
from capcli.training.learning.snapshot import (
    LAST_FILE,
    Log,
    best_cider,
    is_over,
    read_snapshot,
    write_log,
    write_snapshot,
)
from capcli.training.measuring.validation import is_measured, mean_cider, measure_checkpoint, shown_photos, validate
from capcli.training.watching.curves import describe_run, thin_out
from capcli.training.watching.reports import Example, report
from capcli.training.watching.watching import Watcher

FEW = 1000  # photos; the bundled decoder learnt from 12,000, and at first 9,000
WARM_UP = 0.05  # share of a run in which the learning rate rises
FINAL_RATE = 0.02  # the learning rate at the end of the cosine, as a share of the peak
GRADIENT_NORM = 1.0  # gradients above it are clipped


def train(
    options: TrainOptions,
    folder: Path,
    device: torch.device,
    cache: Path | None = None,
    resume: bool = False,
    command: str | None = None,
    tensorboard: bool = False,
    ranks: Ranks | None = None,
) -> None:
    """Train to the last epoch, keeping a snapshot and the best checkpoint by dev CIDEr; then measure the best.

    options: all that determines the result.
    folder: for checkpoint, last.safetensors, log.jsonl and curves.html; made if missing.
    cache: folder of encoded photos shared by runs; None keeps them in folder until done.
    resume: whether to continue after folder's last finished epoch, if any.
    command: for the model card.
    tensorboard: whether to write event files into folder/tensorboard; needs the extra `tensorboard`.
    ranks: processes training together, which all call this; None for one alone.

    Raises DataError for unusable data, options or snapshots and for gradients that are not finite; ImageError,
    ModelError, ValueError, OSError; RankLost; and ImportError without the `train` extra.
    """
    setup = set_up(options, folder, device, cache, command, ranks)
    options, console, ranks = setup.options, setup.console, setup.ranks
    log: Log = []
    if resume and (folder / LAST_FILE).exists():
        log = read_snapshot(folder, setup)
        console.print(f"resuming after epoch {len(log)}", markup=False)
    ranks.require_alike(setup.begun_with, log)
    page = Page(setup, folder, Watcher(folder, console, tensorboard))
    if ranks.leads:
        folder.mkdir(parents=True, exist_ok=True)
        write_log(folder, log)  # marks the folder as a run's before there is anything to resume
        page.write(log)
    finished = is_over(log, options)
    if not finished:
        tell_beginning(setup)
        open_inputs(setup)

    first, start = len(log), time.perf_counter()
    for epoch in range(first, first if finished else options.epochs):
        row = train_epoch(setup, folder, epoch)
        if ranks.leads:
            examples = measure_epoch(setup, folder, log, row)
            seconds_each = (time.perf_counter() - start) / (epoch + 1 - first)
            left = timedelta(seconds=round(seconds_each * (options.epochs - epoch - 1)))
            report(console, row, options.epochs, setup.objective.figure, examples, left)
            log.append(row)
            thin_out(log)
            write_snapshot(folder, setup, log)
            page.write(log, left)
        ranks.wait_for_leader()
        if options.patience and ranks.total(float(ranks.leads and is_over(log, options))):
            break

    if ranks.leads:
        finish(setup, folder, log, finished)
        if cache is None:
            setup.inputs.delete()
        console.print(f"the best checkpoint is in {folder}", markup=False)
    ranks.wait_for_leader()


class Page:
    """Keep the page of a run true to its log."""

    def __init__(self, setup: Setup, folder: Path, watcher: Watcher) -> None:
        """Choose the dev photos to show."""
        self.setup, self.name, self.watcher = setup, folder.resolve().name, watcher
        self.photos = shown_photos(setup.sets)

    def write(self, log: Log, left: timedelta | None = None) -> None:
        """Write the page. left: estimated time for other epochs, or None."""
        epochs, figure = self.setup.options.epochs, self.setup.objective.figure
        self.watcher.write(describe_run(self.name, log, epochs, figure, self.photos, left))


def tell_beginning(setup: Setup) -> None:
    """Print how a run trains, and a warning if a new decoder has too few photos."""
    options, ranks = setup.options, setup.ranks
    together = f", in {ranks.count} processes" if ranks.count > 1 else ""
    setup.console.print(f"training on {setup.device} in {options.precision}{together}", markup=False)
    if not options.init and len(setup.photos) < FEW:
        words, least = len(setup.model.vocabulary) - len(SPECIAL_WORDS), options.min_count or MIN_COUNT
        setup.console.print(
            f"{len(setup.photos)} training photos and {words} words that are in captions {least} times or more are "
            "too few for a new decoder, which may describe every photo in the same way: it takes thousands; "
            "--init starts from a trained checkpoint, and capcli teach needs only twenty photos",
            markup=False,
        )


def open_inputs(setup: Setup) -> None:
    """Make photos ready to be read; the first process encodes them, and the others wait for it."""
    if setup.ranks.leads:
        setup.inputs.open(setup.console)
    setup.ranks.wait_for_leader()
    if not setup.ranks.leads:
        setup.inputs.open(setup.console)


def train_epoch(setup: Setup, folder: Path, epoch: int) -> dict[str, Any]:
    """Train for an epoch, and return its row of the log, without measurements.

    folder: of the run, for errors.
    epoch: from 0.

    Raises DataError for gradients that are not finite, and what reading photos raises.
    """
    options, objective, optimizer = setup.options, setup.objective, setup.optimizer
    started = time.perf_counter()
    # Seeded by the epoch, so that a resumed run has the same dropout as an uninterrupted one; and by the rank.
    torch.manual_seed(options.seed * 7919 + epoch + 1_000_003 * setup.ranks.rank)
    objective.begin_epoch(setup.model.decoder, epoch / options.epochs)
    total, steps, shown = 0.0, 0, 0
    count = len(setup.shown(epoch))
    with progress(setup.console, f"epoch {epoch + 1}/{options.epochs}", count, "photos") as advance:
        for batch, photos in setup.inputs.train(setup.batches(epoch), epoch):
            # In photos, up to the middle of this batch, since epochs differ in their number of batches.
            passed = epoch + (shown + batch.size / 2) / count
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * learning_rate_at(passed / options.epochs)
            figure = take_step(setup, batch, photos)
            if figure is None:
                raise DataError(
                    f"{folder}: the gradients of epoch {epoch + 1} are no longer finite numbers: "
                    "start over with a lower --learning-rate"
                )
            total, steps, shown = total + figure, steps + 1, shown + batch.size
            advance(batch.size, f"step {steps}, {objective.figure} {figure:.3f}")
    setup.model.decoder.eval()
    return {
        "epoch": epoch + 1,
        objective.figure: total / steps,
        "seconds": round(time.perf_counter() - started, 1),
    }


def take_step(setup: Setup, batch: Batch, photos: Tensor | Features) -> float | None:
    """Take a step of the optimizer, and return the objective's figure; None, without a step, for infinite gradients.

    photos: pixels, or what the encoder made of them.
    """
    model, optimizer = setup.model, setup.optimizer
    with autocast(setup.device, setup.options.precision):
        features = model.encoder(photos) if isinstance(photos, Tensor) else photos
        loss, figure = setup.objective(model, features, batch)
    optimizer.zero_grad()
    loss.backward()
    setup.ranks.add_gradients(model.parameters())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    if not norm.isfinite():
        return None
    optimizer.step()
    if setup.average:
        setup.average.update()
    return figure


def measure_epoch(setup: Setup, folder: Path, log: Log, row: dict[str, Any]) -> list[Example]:
    """Complete an epoch's row with scores on dev photos, keep the checkpoint if it is the best, and return examples.

    log: of earlier epochs.
    """
    with setup.average.applied() if setup.average else contextlib.nullcontext():
        scores, examples = validate(setup)
        cider = mean_cider(scores, setup.sets)
        # Without dev photos, or with a single one (its CIDEr is always 0), all tie and the last is kept.
        if cider >= best_cider(log) or not scores:
            setup.model.save(folder, torch.float16)
    row["dev"] = scores
    row["cider"] = cider
    row["learning_rate"] = setup.optimizer.param_groups[0]["lr"]  # the decoder's, of the last step
    row["examples"] = [sentence(example.said) for example in examples]
    return examples


def finish(setup: Setup, folder: Path, log: Log, finished: bool) -> None:
    """Measure the best checkpoint, unless an earlier run has. finished: whether there was no epoch left to train."""
    if finished and is_measured(folder, setup.sets):
        done = f"epoch {len(log)}/{len(log)} is done and measured"
        setup.console.print(f"{done}: nothing is left to do", markup=False)
    else:
        measure_checkpoint(folder, setup)


def learning_rate_at(share: float) -> float:
    """Return the learning rate as a share of its peak: linear warm-up, then a cosine down to FINAL_RATE.

    share: of the run so far, 0 to 1.

    Source: Loshchilov & Hutter 2017 (arXiv:1608.03983).
    """
    if share < WARM_UP:
        return share / WARM_UP
    cosine = 0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))
    return FINAL_RATE + (1 - FINAL_RATE) * cosine
