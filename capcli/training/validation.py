"""How good a run's captions are: measured quickly after each epoch, and in full at the end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import score_line
from capcli.checkpoints.store import read_config
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.engines.torch import TorchEngine
from capcli.model.precision import autocast
from capcli.progress import progress
from capcli.training.calibration import least_gain
from capcli.training.datasets import DataSet
from capcli.training.evaluation import evaluate_captioner
from capcli.training.memory import write_memory
from capcli.training.metrics import describe, score_captions
from capcli.training.reports import Example
from capcli.training.setup import Setup

SHOWN_CAPTIONS = 3
Scores = dict[str, dict[str, Any]]  # by data set, then by name


def validate(setup: Setup) -> tuple[Scores, list[Example]]:
    """Return the scores of the model as it is on every data set's dev photos, and some of the captions.

    METEOR, which takes long, is left out.

    Raises ImageError.
    """
    model, options = setup.model, BeamOptions(**setup.model.config.decoding)
    scores: Scores = {}
    examples = []
    for data_set in with_dev(setup.sets):
        photos = data_set.split("dev")
        captions: list[str] = []
        with progress(setup.console, f"captioning {data_set.name} dev photos", len(photos)) as advance:
            for features in setup.inputs.dev(data_set):
                with autocast(setup.device, setup.options.precision):
                    found = beam_search(model.decoder, features, options, model.vocabulary)
                captions += [model.vocabulary.decode(ids) for ids in found.words[:, 0].tolist()]
                advance(len(features.global_vector))
        results = score_captions(captions, [photo.captions for photo in photos], meteor=False)
        del results["cider_each"], results["intervals"]
        scores[data_set.name] = results | describe(captions, setup.known)
        stride = max(1, len(photos) // SHOWN_CAPTIONS)
        shown = list(zip(photos, captions, strict=True))[::stride][:SHOWN_CAPTIONS]
        examples += [Example(photo.path.name, caption, photo.captions[0]) for photo, caption in shown]
    return scores, examples


def mean_cider(scores: Scores, sets: list[DataSet]) -> float:
    """Return the mean CIDEr over the dev photos of all data sets, in percent; 0 if there are none."""
    photos = {data_set.name: len(data_set.split("dev")) for data_set in sets}
    return float(sum(scores[name]["cider"] * photos[name] for name in scores) / max(sum(photos.values()), 1))


def measure_checkpoint(folder: Path, setup: Setup) -> None:
    """Measure the checkpoint that a run has stored, and write the results into its configuration and model card.

    The results are its scores, and the gain below which captions are marked as unsure. What `capcli teach` needs of the
    training photos is written too.

    folder: of the run.
    setup: of the run.

    Raises DataError, ImageError, ModelError and OSError.
    """
    write_memory(folder, CaptionModel.load(folder), setup.photos, setup.device, setup.options.seed)
    measure(setup.console, folder, setup.sets, setup.device, setup.options.precision)


def measure(console: Console, folder: Path, sets: list[DataSet], device: torch.device, precision: str) -> None:
    """Measure a checkpoint on the data sets' dev photos, and write the results into its configuration and model card.

    folder: of the checkpoint.
    device, precision: where, and in which number format, it captions.

    Raises DataError, ImageError, ModelError and OSError.
    """
    stored = CaptionModel.load(folder)
    captioner = Captioner(TorchEngine(stored, device, precision))
    scores, gains = {}, []
    for data_set in with_dev(sets):
        console.print(f"scoring {data_set.name} dev", markup=False)
        result = evaluate_captioner(captioner, data_set, "dev", captioner.options, batch_size=32)
        speed = f"{result['images_per_second']} images/s in {captioner.precision}"
        console.print(f"  {speed}, {score_line(result['scores'])}", markup=False)
        scores[data_set.name] = rounded(result["scores"]) | {"precision": captioner.precision}
        gains += [row["gain"] for row in result["captions"]]
    unsure_below = least_gain(gains) if gains else None
    stored.config = dataclasses.replace(stored.config, scores=scores, unsure_below=unsure_below)
    stored.save_description(folder)


def is_measured(folder: Path, sets: list[DataSet]) -> bool:
    """Return whether `measure_checkpoint` has written the scores of the checkpoint in a folder. Raises ModelError."""
    return read_config(folder).scores.keys() == {data_set.name for data_set in with_dev(sets)}


def with_dev(sets: list[DataSet]) -> list[DataSet]:
    """Return the data sets that have dev photos."""
    return [data_set for data_set in sets if data_set.split("dev")]


def rounded(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores rounded, and their confidence intervals as text, for the model card.

    scores: what `score_captions` returned.
    """
    figures = {name: value for name, value in scores.items() if name != "intervals"}
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()} | {
        f"{name}_interval": f"{low:.1f} to {high:.1f}" for name, (low, high) in scores["intervals"].items()
    }
