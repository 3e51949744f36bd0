"""The page on which a training run is read from top to bottom, as `capcli train` starts it."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from capcli.model.precision import autocast
from capcli.progress import progress
from capcli.training.datasets import DataError
from capcli.training.options import TrainOptions
from capcli.training.reports import report
from capcli.training.setup import set_up
from capcli.training.snapshot import LAST_FILE, Log, best_cider, read_snapshot, write_log, write_snapshot
from capcli.training.validation import is_measured, mean_cider, measure, validate

WARM_UP = 0.05  # of all that a run shows
FINAL_RATE = 0.02  # of the learning rate, at the end of the cosine
GRADIENT_NORM = 1.0


def train(
    options: TrainOptions,
    folder: Path,
    device: torch.device,
    cache: Path | None = None,
    resume: bool = False,
    command: str | None = None,
) -> None:
    """Train to the last epoch, keeping the best checkpoint by dev CIDEr and a snapshot, then measure the best.

    options: what fixes the result.
    folder: where the checkpoint, last.safetensors and log.jsonl go; made if need be.
    device: where to compute.
    cache: where encoded photos are kept for other runs; None keeps them in folder until the run is done.
    resume: go on after the last finished epoch, if folder has one.
    command: what started the run, for the model card; None if it was no command.

    Raises DataError for data, options or a snapshot that cannot be used and for gradients that are no longer finite,
    ImageError, ModelError, ValueError, OSError and, without the `train` extra, ImportError.
    """
    setup = set_up(options, folder, device, cache, command)
    options, console, inputs = setup.options, setup.console, setup.inputs
    model, objective, optimizer, average = setup.model, setup.objective, setup.optimizer, setup.average
    log: Log = []
    if resume and (folder / LAST_FILE).exists():
        log = read_snapshot(folder, setup)
        console.print(f"resuming after epoch {len(log)}", markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    write_log(folder, log)  # by which the folder is known for a run's before there is anything to resume
    finished = len(log) >= options.epochs
    if not finished:
        console.print(f"training on {device} in {options.precision}", markup=False)
        inputs.open(console)

    for epoch in range(len(log), options.epochs):
        started = time.perf_counter()
        # Seeded by the epoch, so that a resumed run draws the dropout that an uninterrupted one would have drawn.
        torch.manual_seed(options.seed * 7919 + epoch)
        objective.begin_epoch(model.decoder, epoch / options.epochs)
        total, steps, shown = 0.0, 0, 0
        with progress(console, f"epoch {epoch + 1}/{options.epochs}", len(setup.order)) as advance:
            for batch, seen in inputs.train(setup.batches(epoch), epoch):
                # By photos, since epochs differ in their number of batches; at the middle of this one.
                passed = epoch + (shown + len(batch.photos) / 2) / len(setup.order)
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * learning_rate_at(passed / options.epochs)
                with autocast(device, options.precision):
                    features = model.encoder(seen) if isinstance(seen, Tensor) else seen
                    loss, figure = objective(model, features, batch)
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
                if not norm.isfinite():
                    raise DataError(
                        f"{folder}: the gradients of epoch {epoch + 1} are no longer finite numbers: "
                        "start over with a lower --learning-rate"
                    )
                optimizer.step()
                if average:
                    average.update()
                total, steps, shown = total + figure, steps + 1, shown + len(batch.photos)
                advance(len(batch.photos), f"{objective.figure} {figure:.3f}")
        model.decoder.eval()
        seconds = round(time.perf_counter() - started, 1)

        with average.applied() if average else contextlib.nullcontext():
            scores, examples = validate(setup)
            cider = mean_cider(scores, setup.sets)
            # Without dev photos, or with one, whose CIDEr is always 0, nothing tells epochs apart: the last is kept.
            if cider >= best_cider(log) or not scores:
                model.save(folder, torch.float16)

        row = {"epoch": epoch + 1, objective.figure: total / steps, "seconds": seconds, "dev": scores, "cider": cider}
        report(console, row, options.epochs, objective.figure, examples)
        log.append(row)
        write_snapshot(folder, setup, log)

    if finished and is_measured(folder, setup.sets):
        done = f"epoch {len(log)}/{len(log)} is done and measured"
        console.print(f"{done}: nothing is left to do", markup=False)
    else:
        measure(folder, setup)
    if cache is None:
        inputs.delete()
    console.print(f"the best checkpoint is in {folder}", markup=False)


def learning_rate_at(share: float) -> float:
    """Return the share of the peak learning rate after this share of a run, both 0 to 1.

    Linear warm-up, then a cosine down to FINAL_RATE (Loshchilov & Hutter 2017, arXiv:1608.03983).
    """
    if share < WARM_UP:
        return share / WARM_UP
    cosine = 0.5 + 0.5 * math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))
    return FINAL_RATE + (1 - FINAL_RATE) * cosine
