"""Recipes: training in stages, each beginning with the checkpoint before.

A recipe is a TOML file. Top-level keys are options for every stage that has them; each `[[stage]]` has a `name`, a
`kind` of KINDS (`train` by default) and options of its own. `new_decoder = true` takes only the previous encoder;
`minutes` is how long the stage once took. `license` gives the terms of use.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import data_of, license_of
from capcli.checkpoints.store import copy_beside
from capcli.files import write_whole
from capcli.progress import stderr_console
from capcli.training.data.datasets import DataError, DataSet
from capcli.training.learning.agreement import learn_agreement
from capcli.training.learning.kinds import write_kinds
from capcli.training.learning.loop import train
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.ranks import Ranks
from capcli.training.learning.setup import read_data_sets
from capcli.training.measuring.validation import measure

ENDING = ".toml"
DONE_FILE, FEATURES = "stages.json", "features"
TERMS = "license"  # key of the terms of use, for the card
OWN_KEYS = ("name", "kind", "minutes", "new_decoder")
NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# The options of each kind of stage.
KINDS: dict[str, frozenset[str]] = {
    "train": frozenset(field.name for field in dataclasses.fields(TrainOptions)) - {"init"},
    "agree": frozenset({"data", "beam", "seed", "restraint"}),
    "kinds": frozenset({"data"}),
}


@dataclass(frozen=True)
class Stage:
    """Hold a recipe's stage.

    name: of its folder, after its number.
    kind: a key of KINDS.
    options: given here or for the whole recipe.
    new_decoder: whether to keep only the previous stage's encoder.
    minutes: taken once; None if unknown.
    """

    name: str
    kind: str
    options: dict[str, Any]
    new_decoder: bool
    minutes: float | None


def read_recipe(path: Path) -> list[Stage]:
    """Return a recipe's stages.

    path: of the TOML file; paths in it are relative to the current folder, as on the command line.

    Raises DataError, with the stage and key at fault.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (UnicodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: not TOML ({error})") from None
    tables = content.pop("stage", None)
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise DataError(f"{path}: a recipe has one [[stage]] or more")
    if not isinstance(content.pop(TERMS, ""), str):
        raise DataError(f"{path}: {TERMS} is not text")
    if unknown := [key for key in content if not any(key in known for known in KINDS.values())]:
        raise DataError(f"{path}: {unknown[0]} is not an option of any stage")
    stages = []
    for number, table in enumerate(tables, 1):
        try:
            stages.append(read_stage(number, table, content))
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: stage {number}: {error}") from None
    return stages


def read_stage(number: int, table: dict[str, Any], common: dict[str, Any]) -> Stage:
    """Return a stage.

    number: from 1.
    common: options of all stages.

    Raises ValueError, and TypeError for an option of the wrong type.
    """
    kind, name = table.get("kind", "train"), table.get("name", "")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}, not one of {', '.join(KINDS)}")
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ValueError(f"name is {name!r}, not lower-case letters, digits and hyphens")
    known = KINDS[kind]
    if unknown := [key for key in table if key not in known and key not in OWN_KEYS]:
        raise ValueError(f"{unknown[0]} is not an option of a stage of the kind {kind}")
    options = {key: value for key, value in (common | table).items() if key in known}
    if isinstance(options.get("data"), str) or not options.get("data"):
        raise ValueError('data is a list of data sets, such as ["flickr8k", "coco=2"]')
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    stage = Stage(name, kind, options, bool(table.get("new_decoder", False)), table.get("minutes"))
    if number == 1 and (kind != "train" or stage.new_decoder):
        raise ValueError("the first stage must train a new model, without new_decoder")
    if kind == "train":
        train_options(stage, None if number == 1 else Path("before"))  # to raise their errors now
    return stage


def train_options(stage: Stage, before: Path | None) -> TrainOptions:
    """Return the options of a `train` stage. before: folder of the previous checkpoint."""
    if before is None:
        return TrainOptions(**stage.options)
    begin = {"encoder_weights": str(before)} if stage.new_decoder else {"init": str(before)}
    return TrainOptions(**(stage.options | begin))


def describe(stages: list[Stage], folder: Path) -> list[str]:
    """Return a line per stage: folder, what it does, and how long it took, here or elsewhere."""
    lines, minutes_here = [], read_done(folder)
    for place, stage in zip(places(stages, folder), stages, strict=True):
        told = ", ".join(f"{key} {value}" for key, value in stage.options.items())
        if place.name in minutes_here:
            time = f"done, in {minutes_here[place.name]:g} min"
        else:
            time = "not timed yet" if stage.minutes is None else f"about {stage.minutes:g} min"
        lines.append(f"{place}: {stage.kind}, {told}; {time}")
    left = [s.minutes for p, s in zip(places(stages, folder), stages, strict=True) if p.name not in minutes_here]
    return [*lines, f"{len(left)} of {len(stages)} stages are left: {sum(filter(None, left)):g} min by earlier timings"]


def places(stages: list[Stage], folder: Path) -> list[Path]:
    """Return the stages' folders, which sort in order."""
    return [folder / f"{number:02}-{stage.name}" for number, stage in enumerate(stages, 1)]


def read_done(folder: Path) -> dict[str, float]:
    """Return the minutes of each finished stage, by folder name."""
    try:
        return dict(json.loads((folder / DONE_FILE).read_bytes()))
    except FileNotFoundError:
        return {}


def follow(
    path: Path,
    folder: Path,
    device: torch.device,
    cache: Path | None = None,
    command: str | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Run a recipe's unfinished stages, and put the last checkpoint into the folder itself.

    folder: for a folder per stage, and the checkpoint.
    device, cache, command, ranks: see `loop.train`; by default the cache is in the folder.

    Raises errors as `read_recipe`, `train` and `learn_agreement` do, and DataError for a folder of another recipe's
    stages.
    """
    stages = read_recipe(path)
    recipe, kept = path.read_bytes(), folder / path.name
    ranks = ranks or Ranks()
    console = stderr_console(quiet=not ranks.leads)
    if kept.exists() and kept.read_bytes() != recipe:
        raise DataError(f"{kept}: is a different recipe from {path}; name another folder")
    ranks.wait_for_leader()
    if ranks.leads:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(kept, recipe)
    before: Path | None = None
    for place, stage in zip(places(stages, folder), stages, strict=True):
        done = read_done(folder)
        ranks.wait_for_leader()
        if place.name not in done:
            console.print(f"{place}: {stage.kind}", markup=False)
            started = time.perf_counter()
            run_stage(stage, place, before, device, cache or folder / FEATURES, ranks)
            if ranks.leads:
                done[place.name] = round((time.perf_counter() - started) / 60, 1)
                write_whole(folder / DONE_FILE, json.dumps(done, indent=1).encode())
            ranks.wait_for_leader()
        before = place
    assert before is not None
    if ranks.leads:
        finish(before, folder, recipe.decode(), command)
        if cache is None:
            shutil.rmtree(folder / FEATURES, ignore_errors=True)
        console.print(f"{folder}: holds the last stage's checkpoint", markup=False)


def run_stage(stage: Stage, place: Path, before: Path | None, device: torch.device, cache: Path, ranks: Ranks) -> None:
    """Run or resume a stage. place: its folder; the rest as in `follow` and `train_options`."""
    if stage.kind == "train":
        train(train_options(stage, before), place, device, cache, resume=True, ranks=ranks)
        return
    assert before is not None
    if not ranks.leads:
        return
    sets = read_data_sets(stage.options["data"])
    if stage.kind == "agree":
        given = stage.options
        learn_agreement(
            sets, before, place, given.get("beam"), device, given.get("seed", 1), None, given.get("restraint")
        )
    else:
        name_kinds(sets, before, place, device)


def name_kinds(sets: list[DataSet], before: Path, place: Path, device: torch.device) -> None:
    """Write a checkpoint that names kinds and knows its confidence. before: the one without."""
    console, model = stderr_console(), CaptionModel.load(before)
    model.save(place, torch.float16)
    copy_beside(before, place)
    train, dev = ([photo for each in sets for photo in each.split(split)] for split in ("train", "dev"))
    agreeing = write_kinds(console, place, train, dev, device)
    if agreeing is not None:
        console.print(f"agrees with ImageNet's classifier, where that is sure, in {agreeing:.0%}", markup=False)
    measure(console, place, sets, device, "fp32")


def finish(last: Path, folder: Path, recipe: str, command: str | None) -> None:
    """Put the last stage's checkpoint into the recipe's folder, recording the recipe's text as its training.

    command: for the model card.
    """
    model = CaptionModel.load(last)
    record = {"command": command, "recipe": recipe, "data": data_of(model.config.training)}
    record["made_with"] = model.config.training.get("made_with")
    if (terms := tomllib.loads(recipe).get(TERMS) or license_of(model.config.training)) is not None:
        record["license"] = terms
    model.config = dataclasses.replace(model.config, training=record)
    copy_beside(last, folder)
    model.save(folder, torch.float16)
