"""A training run from beginning to end, as `capcli train` starts it."""

from __future__ import annotations

import contextlib
import math
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor

from capcli.maps.shown import sentence
from capcli.model.precision import autocast
from capcli.model.vocabulary import SPECIAL_WORDS
from capcli.progress import progress
from capcli.training.data.datasets import DataError
from capcli.training.learning.options import MIN_COUNT, TrainOptions
from capcli.training.learning.ranks import Ranks
from capcli.training.learning.setup import set_up
from capcli.training.learning.snapshot import LAST_FILE, Log, best_cider, read_snapshot, write_log, write_snapshot
from capcli.training.measuring.validation import is_measured, mean_cider, measure_checkpoint, shown_photos, validate
from capcli.training.watching.curves import news_of, thin_out
from capcli.training.watching.reports import report
from capcli.training.watching.watching import Watcher

FEW = 1000  # photos; those that the bundled decoder learnt from were 12,000, and at first 9,000
WARM_UP = 0.05  # the share of a run in which the learning rate rises
FINAL_RATE = 0.02  # the learning rate at the end of the cosine, as a share of the peak
GRADIENT_NORM = 1.0  # above which gradients are clipped


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
    """Train to the last epoch, keeping the best checkpoint by dev CIDEr and a snapshot, then measure the best.

    options: everything that determines the result.
    folder: where the checkpoint, last.safetensors, log.jsonl and curves.html go; is made if it does not exist.
    device: where to compute.
    cache: where to keep encoded photos for other runs; None keeps them in folder until the run is done.
    resume: whether to continue after the last finished epoch in folder, if there is one.
    command: the command line that started the run, for the model card; None if there was none.
    tensorboard: whether to write event files too, into folder/tensorboard; needs the extra `tensorboard`.
    ranks: the processes that train together, each of which calls this; None for one alone.

    Raises DataError for data, options or a snapshot that cannot be used, and for gradients that are no longer finite;
    ImageError, ModelError, ValueError, OSError; RankLost; and ImportError without the `train` extra.
    """
    setup = set_up(options, folder, device, cache, command, ranks)
    options, console, inputs, ranks = setup.options, setup.console, setup.inputs, setup.ranks
    model, objective, optimizer, average = setup.model, setup.objective, setup.optimizer, setup.average
    log: Log = []
    if resume and (folder / LAST_FILE).exists():
        log = read_snapshot(folder, setup)
        console.print(f"resuming after epoch {len(log)}", markup=False)
    ranks.require_alike(setup.begun_with, log)
    watcher, name, photos = Watcher(folder, console, tensorboard), folder.resolve().name, shown_photos(setup.sets)
    if ranks.leads:
        folder.mkdir(parents=True, exist_ok=True)
        write_log(folder, log)  # marks the folder as a run's, even before there is anything to resume
        watcher.write(news_of(name, log, options.epochs, objective.figure, photos))
    finished = len(log) >= options.epochs
    if not finished:
        several = f", in {ranks.count} processes" if ranks.count > 1 else ""
        console.print(f"training on {device} in {options.precision}{several}", markup=False)
        if not options.init and len(setup.photos) < FEW:
            words, least = len(model.vocabulary) - len(SPECIAL_WORDS), options.min_count or MIN_COUNT
            console.print(
                f"{len(setup.photos)} training photos and {words} words that are in captions {least} times or more are "
                "too few for a new decoder, which may describe every photo in the same way: it takes thousands; "
                "--init starts from a trained checkpoint, and capcli teach needs only twenty photos",
                markup=False,
            )
        if ranks.leads:
            inputs.open(console)
        ranks.wait_for_leader()
        if not ranks.leads:
            inputs.open(console)  # what rank 0 has made

    first, begun = len(log), time.perf_counter()
    for epoch in range(first, options.epochs):
        started = time.perf_counter()
        # Seeded by the epoch, so that a resumed run has the dropout of an uninterrupted one; and by the rank.
        torch.manual_seed(options.seed * 7919 + epoch + 1_000_003 * ranks.rank)
        objective.begin_epoch(model.decoder, epoch / options.epochs)
        total, steps, shown = 0.0, 0, 0
        count = len(setup.shown(epoch))
        with progress(console, f"epoch {epoch + 1}/{options.epochs}", count, "photos") as advance:
            for batch, seen in inputs.train(setup.batches(epoch), epoch):
                # Measured in photos, since epochs differ in their number of batches, up to the middle of this batch.
                passed = epoch + (shown + batch.size / 2) / count
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * learning_rate_at(passed / options.epochs)
                with autocast(device, options.precision):
                    features = model.encoder(seen) if isinstance(seen, Tensor) else seen
                    loss, figure = objective(model, features, batch)
                optimizer.zero_grad()
                loss.backward()
                ranks.add_gradients(model.parameters())
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
                if not norm.isfinite():
                    raise DataError(
                        f"{folder}: the gradients of epoch {epoch + 1} are no longer finite numbers: "
                        "start over with a lower --learning-rate"
                    )
                optimizer.step()
                if average:
                    average.update()
                total, steps, shown = total + figure, steps + 1, shown + batch.size
                advance(batch.size, f"step {steps}, {objective.figure} {figure:.3f}")
        model.decoder.eval()
        seconds = round(time.perf_counter() - started, 1)
        if ranks.leads:
            with average.applied() if average else contextlib.nullcontext():
                scores, examples = validate(setup)
                cider = mean_cider(scores, setup.sets)
                # Without dev photos, or with a single one, whose CIDEr is always 0, all tie, and the last is kept.
                if cider >= best_cider(log) or not scores:
                    model.save(folder, torch.float16)
            row = {"epoch": epoch + 1, objective.figure: total / steps, "seconds": seconds, "dev": scores}
            row["cider"] = cider
            row["learning_rate"] = optimizer.param_groups[0]["lr"]  # the decoder's, of the last step
            row["examples"] = [sentence(example.said) for example in examples]
            each = (time.perf_counter() - begun) / (epoch + 1 - first)
            left = timedelta(seconds=round(each * (options.epochs - epoch - 1)))
            report(console, row, options.epochs, objective.figure, examples, left)
            log.append(row)
            thin_out(log)
            write_snapshot(folder, setup, log)
            watcher.write(news_of(name, log, options.epochs, objective.figure, photos, left))
        ranks.wait_for_leader()

    if ranks.leads:
        if finished and is_measured(folder, setup.sets):
            done = f"epoch {len(log)}/{len(log)} is done and measured"
            console.print(f"{done}: nothing is left to do", markup=False)
        else:
            measure_checkpoint(folder, setup)
        if cache is None:
            inputs.delete()
        console.print(f"the best checkpoint is in {folder}", markup=False)
    ranks.wait_for_leader()


def learning_rate_at(share: float) -> float:
    """Return the learning rate as a share of its peak: a linear warm-up, then a cosine down to FINAL_RATE.

    share: of the run that is over, 0 to 1.

    Source: Loshchilov & Hutter 2017 (arXiv:1608.03983).
    """
    if share < WARM_UP:
        return share / WARM_UP
    cosine = 0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))
    return FINAL_RATE + (1 - FINAL_RATE) * cosine
