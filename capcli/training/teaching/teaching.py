"""Teaching: a checkpoint learns a person's captions of some photos, and keeps what it knew of others."""

from __future__ import annotations

import dataclasses
import random
import shlex
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import made_with
from capcli.checkpoints.store import KINDS_FILE, MEMORY_FILE
from capcli.files import write_whole
from capcli.model.config import ModelConfig
from capcli.model.decoders import Decoder
from capcli.model.taught import TaughtDecoder
from capcli.model.vocabulary import END, PAD, Vocabulary
from capcli.progress import stderr_console
from capcli.training.data.datasets import DataError, DataSet, Photo
from capcli.training.teaching.blending import blend
from capcli.training.teaching.course import NOTHING_KEPT, Course
from capcli.training.teaching.describing import look
from capcli.training.teaching.gate import separate
from capcli.training.teaching.judging import SHARES, judge
from capcli.training.teaching.learning import learn_all, passes_over
from capcli.training.teaching.lesson import Lesson, prepare
from capcli.training.teaching.memory import read_memory
from capcli.training.teaching.views import encode
from capcli.training.watching.watching import Watcher

FOLDS = 3
FEWEST = 6  # photos, to hold some out in turn
SHOWN = 3


def teach(
    data_set: DataSet,
    init: Path,
    folder: Path,
    seed: int = 1,
    command: str | None = None,
    workers: int = 1,
) -> bool:
    """Write a checkpoint that has learnt a set's training photos, in float32 on the CPU; return whether it did.

    The taught decoder sits beside the old one, see `TaughtDecoder`. In learning, it is kept close to the old one's
    predictions for remembered photos. Photos held out in turn measure the gain, which is printed, and decide how much
    of what was learnt is kept, see `blend`: nothing, and no checkpoint is written, if they are described worse.
    folder/curves.html and folder/teaching.json show each pass.

    data_set: captioned by a person.
    init: folder of the checkpoint to begin from; one that was taught begins as what it was before.
    folder: of the new checkpoint.
    command: for the model card.
    workers: threads that learn side by side, 1 or more; each needs PyTorch to compute with one thread.

    Raises ModelError for a checkpoint without memory, DataError for fewer than two photos, ImageError and OSError.

    Source: Li & Hoiem 2016 (arXiv:1606.09282), for old predictions; Rebuffi et al. 2017 (arXiv:1611.07725), for
    remembered inputs.
    """
    console, started = stderr_console(), time.perf_counter()
    photos = data_set.split("train")
    if len(photos) < 2:
        raise DataError(f"{data_set.name}: one photo teaches nothing about others; correct two or more")
    folder.mkdir(parents=True, exist_ok=True)
    watcher = Watcher(folder, console)
    course = Course(folder.resolve().name, held_out=len(photos) >= FEWEST)
    course.tell(watcher)
    model = untaught(CaptionModel.load(init))
    remembered = {name: (init / name).read_bytes() for name in (MEMORY_FILE, KINDS_FILE) if (init / name).is_file()}
    memory = read_memory(init, model)
    model.decoder.requires_grad_(False)
    features = encode(console, model, photos)
    torch.manual_seed(seed)
    lesson = prepare(model, photos, features, memory, seed)
    announce(console, lesson, len(photos))
    near = separate(features.global_vector, memory.global_vector)
    course.passes = passes_over(len(photos))
    folds = deal(len(photos), seed) if course.held_out else []
    taught, trial = learn_all(console, watcher, course, lesson, folds, workers)
    share = judge(console, course, lesson, photos, trial, folds) if folds else SHARES[0]
    course.kept, course.seconds = share > 0, time.perf_counter() - started
    if not course.kept:
        course.tell(watcher)
        console.print(f"capcli: {NOTHING_KEPT}", markup=False)
        return False
    taught = blend(lesson, taught, share)
    if not course.held_out:
        show_some(course, lesson, photos, taught)

    model.decoder, model.vocabulary = TaughtDecoder(lesson.before, taught, near), lesson.vocabulary
    options = {"init": init.name, "epochs": course.passes, "share": share, "seed": seed}
    model.config = taught_config(model, lesson, data_set, options, command)
    for name, content in remembered.items():  # the next teaching needs them, and confidence
        write_whole(folder / name, content)
    model.save(folder, torch.float16)
    course.seconds = time.perf_counter() - started
    course.tell(watcher)
    place = shlex.quote(str(folder))
    console.print(f"taught in {course.seconds:.0f} s: capcli caption photos/ --model {place}", markup=False)
    return True


def deal(photos: int, seed: int) -> list[list[int]]:
    """Return photos' indices dealt at random into FOLDS folds, each of which is held out in turn."""
    order = random.Random(seed).sample(range(photos), photos)
    return [order[i::FOLDS] for i in range(FOLDS)]


def taught_config(
    model: CaptionModel, lesson: Lesson, data_set: DataSet, options: dict[str, Any], command: str | None
) -> ModelConfig:
    """Return a taught model's config. options, command: for the model card."""
    photos = data_set.split("train")
    captions = sum(len(photo.captions) for photo in photos)
    record = {
        "command": command,
        "made_with": made_with("cpu"),
        "data": [{"name": data_set.name, "photos": len(photos), "captions": captions}],
        "begun_from": model.config.training,
        "options": options,
    }
    words, usual = len(lesson.old), usual_agreement(model, lesson)
    return dataclasses.replace(model.config, training=record, scores={}, words_before=words, usual_agreement=usual)


def announce(console: Console, lesson: Lesson, photos: int) -> None:
    """Print what is taught. photos: how many."""
    new = lesson.vocabulary.words[len(lesson.old) :]
    listed = f": {', '.join(new[:20])}{', …' if len(new) > 20 else ''}" if new else ""
    console.print(f"teaching {photos} photos and {len(new)} new words{listed}", markup=False)


def show_some(course: Course, lesson: Lesson, photos: list[Photo], taught: Decoder) -> None:
    """Show how some of the photos that were taught are described."""
    shown = list(range(min(SHOWN, len(photos))))
    before, after = look(lesson, lesson.before, lesson.old, shown), look(lesson, taught, lesson.vocabulary, shown)
    course.show([photos[i] for i in shown], before, after)


@torch.inference_mode()
def usual_agreement(model: CaptionModel, lesson: Lesson) -> float | None:
    """Return the mean agreement of the old decoder's captions with the remembered photos, None without agreement."""
    if model.agreement is None:
        return None
    photos = model.agreement.photos(lesson.replay.global_vector)
    words = lesson.targets.masked_fill(lesson.targets == END, PAD)
    return round(model.agreement(photos, words).mean().item(), 4)


def untaught(model: CaptionModel) -> CaptionModel:
    """Return a model as it was before it was taught, or as it is if it never was."""
    if isinstance(model.decoder, TaughtDecoder):
        known = model.decoder.words_before
        model.decoder, model.vocabulary = model.decoder.before, Vocabulary(model.vocabulary.words[:known])
        began = model.config.training.get("begun_from") or {}
        model.config = dataclasses.replace(model.config, words_before=None, usual_agreement=None, training=began)
    return model
