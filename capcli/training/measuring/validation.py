"""Quality of a run's captions: measured quickly after each epoch, in full at the end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from capcli.captioner import Captioner, candidates_of
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import score_line
from capcli.checkpoints.kinds import read_kinds
from capcli.checkpoints.store import read_config
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.engines.torch import TorchEngine, as_arrays
from capcli.model.precision import autocast
from capcli.progress import progress
from capcli.results import Candidate
from capcli.training.data.datasets import CAPTIONS_AT_ONCE, DataSet, Photo
from capcli.training.learning.losses import summed_loss
from capcli.training.learning.setup import Setup
from capcli.training.measuring.calibration import agrees, fit_confidence, least_gain
from capcli.training.measuring.evaluation import evaluate_captioner
from capcli.training.measuring.metrics import describe, score_captions
from capcli.training.teaching.memory import write_memory
from capcli.training.watching.reports import Example

SHOWN_CAPTIONS = 3
LOSS_CAPTIONS = 1000  # per data set, or one per dev photo if that is more: the loss takes as long as a search
Scores = dict[str, dict[str, Any]]  # by data set, then by name


def validate(setup: Setup) -> tuple[Scores, list[Example]]:
    """Return the current model's scores on every set's dev photos, and some captions.

    METEOR, which is slow, is left out. "loss" is that of up to LOSS_CAPTIONS of people's captions.

    Raises ImageError.
    """
    model, options = setup.model, BeamOptions(**setup.model.config.decoding)
    at_once, smoothing = setup.options.captions_per_batch, setup.options.label_smoothing
    scores: Scores = {}
    examples: list[Example] = []
    for data_set in with_dev(setup.sets):
        photos = data_set.split("dev")
        shown = shown_rows(data_set)
        captions: list[str] = []
        said: list[Candidate] = []
        ids, total, words = setup.dev_captions[data_set.name], 0.0, 0
        each = min(CAPTIONS_AT_ONCE, max(1, LOSS_CAPTIONS // len(photos)))
        with progress(setup.console, f"captioning {data_set.name} dev photos", len(photos), "photos") as advance:
            for features in setup.inputs.dev(data_set):
                begin, end = len(captions), len(captions) + len(features.global_vector)
                people = [photo[0][:each] for photo in ids[begin:end]]
                with autocast(setup.device, setup.options.precision):
                    found = beam_search(model.decoder, features, options, model.vocabulary)
                    loss, count = summed_loss(model.decoder, features, people, at_once, smoothing)
                total, words = total + loss, words + count
                captions += [model.vocabulary.decode(best) for best in found.words[:, 0].tolist()]
                here = found.take([i - begin for i in shown if begin <= i < end])
                said += [several[0] for several in candidates_of(as_arrays(here), model.vocabulary, model.config)]
                advance(len(features.global_vector))
        results = score_captions(captions, [photo.captions for photo in photos], meteor=False)
        del results["each"], results["intervals"]
        scores[data_set.name] = {"loss": total / words} | results | describe(captions, setup.known)
        examples += [Example(photos[i], candidate) for i, candidate in zip(shown, said, strict=True)]
    return scores, examples


def shown_photos(sets: list[DataSet]) -> list[Photo]:
    """Return the dev photos whose captions `validate` gives."""
    return [data_set.split("dev")[i] for data_set in with_dev(sets) for i in shown_rows(data_set)]


def shown_rows(data_set: DataSet) -> list[int]:
    """Return indices of a set's dev photos whose captions are shown."""
    count = len(data_set.split("dev"))
    return list(range(0, count, max(1, count // SHOWN_CAPTIONS)))[:SHOWN_CAPTIONS]


def mean_cider(scores: Scores, sets: list[DataSet]) -> float:
    """Return the mean CIDEr over all sets' dev photos, in percent; 0 without any."""
    photos = {data_set.name: len(data_set.split("dev")) for data_set in sets}
    return float(sum(scores[name].get("cider", 0.0) * photos[name] for name in scores) / max(sum(photos.values()), 1))


def measure_checkpoint(folder: Path, setup: Setup) -> None:
    """Measure a run's stored checkpoint; write its scores, its threshold for unsure captions, and its memory.

    Scores and threshold go into configuration and model card; the memory is for `capcli teach`.

    Raises DataError, ImageError, ModelError and OSError.
    """
    write_memory(folder, CaptionModel.load(folder), setup.photos, setup.device, setup.options.seed)
    measure(setup.console, folder, setup.sets, setup.device, setup.options.precision)


def measure(console: Console, folder: Path, sets: list[DataSet], device: torch.device, precision: str) -> None:
    """Measure a checkpoint on dev photos; write the results into its configuration and model card.

    folder: of the checkpoint.
    device, precision: to caption with.

    Raises DataError, ImageError, ModelError and OSError.
    """
    stored = CaptionModel.load(folder)
    kinds = read_kinds(folder, stored.config.encoder_kind.global_size)
    captioner = Captioner(TorchEngine(stored, device, precision), kinds=kinds)
    scores: Scores = {}
    rows: list[dict[str, Any]] = []
    for data_set in with_dev(sets):
        console.print(f"scoring {data_set.name} dev", markup=False)
        result = evaluate_captioner(captioner, data_set, "dev", captioner.options, batch_size=32)
        speed = f"{result['images_per_second']} images/s in {captioner.precision}"
        console.print(f"  {speed}, {score_line(result['scores'])}", markup=False)
        scores[data_set.name] = rounded(result["scores"]) | {"precision": captioner.precision}
        rows += result["captions"]
    stored.config = dataclasses.replace(
        stored.config,
        scores=scores,
        unsure_below=least_gain([row["gain"] for row in rows]) if rows else None,
        confidence=fit_confidence([row["clues"] for row in rows], [agrees(row) for row in rows]),
    )
    stored.save_description(folder)


def is_measured(folder: Path, sets: list[DataSet]) -> bool:
    """Return whether a folder's checkpoint has scores from `measure_checkpoint`. Raises ModelError."""
    return read_config(folder).scores.keys() == {data_set.name for data_set in with_dev(sets)}


def with_dev(sets: list[DataSet]) -> list[DataSet]:
    """Return the sets with dev photos."""
    return [data_set for data_set in sets if data_set.split("dev")]


def rounded(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores rounded, with confidence intervals as text, for the model card.

    scores: from `score_captions`.
    """
    figures = {name: value for name, value in scores.items() if name != "intervals"}
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()} | {
        f"{name}_interval": f"{low:.1f} to {high:.1f}" for name, (low, high) in scores["intervals"].items()
    }
