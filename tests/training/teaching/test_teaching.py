"""Teaching: what is taught is said of new photos like the taught ones, and nothing else changes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from photo_files import crop

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.hub import bundled_checkpoint
from capcli.checkpoints.kinds import KINDS_FILE
from capcli.checkpoints.store import MEMORY_FILE, ModelError
from capcli.engines.onnx import OnnxEngine
from capcli.engines.torch import TorchEngine
from capcli.progress import stderr_console
from capcli.training.data.datasets import DataError, DataSet, Photo
from capcli.training.learning.losses import summed_loss
from capcli.training.teaching.blending import blend, least_sufficient
from capcli.training.teaching.course import Course
from capcli.training.teaching.gate import separate
from capcli.training.teaching.learning import LABEL_SMOOTHING, held_out_loss, learn_all
from capcli.training.teaching.lesson import prepare
from capcli.training.teaching.memory import read_memory
from capcli.training.teaching.teaching import teach, untaught
from capcli.training.teaching.views import VIEWS, encode
from capcli.training.teaching.words import learn_words
from capcli.training.watching.watching import Watcher

pytestmark = pytest.mark.slow

ENGINES = {"torch": lambda folder: TorchEngine.load(folder, torch.device("cpu"), "fp32"), "onnx": OnnxEngine.load}


@pytest.fixture(scope="module")
def said() -> io.StringIO:
    """What the teaching of `taught` printed."""
    return io.StringIO()


@pytest.fixture(scope="module")
def taught(photos: list[Photo], said: io.StringIO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr("capcli.training.teaching.learning.LEAST_STEPS", 64)  # for time
        teach(DataSet("cats", photos), bundled_checkpoint(), folder)
    return folder


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_new_photos_of_what_was_taught_are_named_and_others_described_as_before(taught: Path, engine: str) -> None:
    before, after = (Captioner(ENGINES[engine](folder)) for folder in (bundled_checkpoint(), taught))
    for number in range(100, 105):
        assert "zorble" in after.caption(crop("chelsea", number)).words
    for name in ("coffee", "astronaut"):
        ours, theirs = before.caption(crop(name, 100)), after.caption(crop(name, 100))
        assert theirs.text == ours.text
        assert theirs.log_prob == pytest.approx(ours.log_prob, abs=1e-3)  # stored in half precision again
        assert np.allclose(theirs.attention, ours.attention, atol=1e-3)


def test_it_says_what_held_out_photos_gain(taught: Path, said: io.StringIO) -> None:
    text = said.getvalue()
    assert "teaching 8 photos and 2 new words: chelsea, zorble" in text
    before, after = map(float, re.findall(r"CIDEr-D ([\d.]+) before, ([\d.]+) after", text)[0])
    assert after > before
    assert f"--model {taught}" in text
    page = (taught / "curves.html").read_text("utf-8")
    assert f"CIDEr-D of photos held out {before:.1f} before, {after:.1f} after" in page
    assert page.count('<p class="when">after</p>') == page.count('<span class="score">before</span>') == 3
    passes = int(re.findall(r"all photos, pass (\d+): ", page)[-1])
    assert passes == 64  # LEAST_STEPS, of one batch each
    assert page.count("<tr>") == 1 + passes


def test_the_loss_of_photos_held_out_is_that_of_decoders_that_have_not_seen_them(photos: list[Photo]) -> None:
    model = CaptionModel.load(bundled_checkpoint())
    memory = read_memory(bundled_checkpoint(), model).take(torch.arange(2))
    model.decoder.requires_grad_(False)
    lesson = prepare(model, photos[:3], encode(stderr_console(), model, photos[:3]), memory, 1)
    decoders = [copy.deepcopy(lesson.decoder) for _ in range(2)]
    decoders[1].output_bias.data[5] += 3
    folds = [[2, 0], [1]]
    losses = []
    for decoder, fold in zip(decoders, folds, strict=True):
        for i in fold:
            features = lesson.features.take(torch.tensor([VIEWS * i]))
            losses.append(summed_loss(decoder.eval(), features, [lesson.captions[i][0]], 9, LABEL_SMOOTHING))
    expected = sum(loss for loss, _ in losses) / sum(words for _, words in losses)
    assert held_out_loss(lesson, decoders, folds) == pytest.approx(expected, rel=1e-5)


def test_a_new_word_begins_among_those_that_are_expected_in_its_place(photos: list[Photo]) -> None:
    model = CaptionModel.load(bundled_checkpoint())
    said = [Photo(photo.path, ("a zorble is sitting on a couch",), "train") for photo in photos[:2]]
    with torch.no_grad():
        features = encode(stderr_console(), model, said)
        words = learn_words(model.decoder, model.vocabulary, said, features)
        rows = torch.nn.functional.normalize(model.decoder.embedding.weight, dim=1)
        nearest = [words.words[i] for i in (rows @ rows[-1]).argsort(descending=True)[:4]]
    assert nearest[0] == "zorble"
    assert "cat" in nearest


def test_a_word_that_is_said_once_is_not_learnt(photos: list[Photo]) -> None:
    model = CaptionModel.load(bundled_checkpoint())
    with torch.no_grad():
        features = model.encoder(torch.zeros(2, 3, 256, 256))
        words = learn_words(model.decoder, model.vocabulary, [Photo(Path("a.jpg"), ("a zorble",), "train")], features)
    assert "zorble" not in words.ids
    assert len(model.decoder.output_bias) == len(words)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_new_words_are_learnt_whole_and_the_rest_in_part(photos: list[Photo], share: float) -> None:
    model = CaptionModel.load(bundled_checkpoint())
    features = encode(stderr_console(), model, photos)
    lesson = prepare(model, photos, features, read_memory(bundled_checkpoint(), model), 1)
    learnt, old = copy.deepcopy(lesson.decoder), len(lesson.old)
    for weight in learnt.parameters():
        weight.data += 1
    for name, weight in blend(lesson, learnt, share).named_parameters():
        moved = weight - lesson.decoder.get_parameter(name)
        if name in ("embedding.weight", "output_bias"):
            assert len(moved) > old
            torch.testing.assert_close(moved[old:], torch.ones_like(moved[old:]))
            moved = moved[:old]
        torch.testing.assert_close(moved, torch.full_like(moved, share), msg=name)


@pytest.mark.parametrize(
    ("scores", "share"),
    [
        ([[5, 5, 5, 5], [1, 1, 1, 1]], 0.6),  # the best
        ([[1, 2, 3, 4], [5, 6, 7, 8]], 1.0),  # better for each photo
        ([[1, 2, 3, 9], [0, 9, 9, 0]], 0.6),  # better for one and worse for another
    ],
)
def test_the_least_share_is_kept_that_chance_may_have_put_below_the_best(scores: list[list[int]], share: float) -> None:
    assert least_sufficient({s: torch.tensor(row).float() for s, row in zip((0.6, 1.0), scores, strict=True)}) == share


def test_the_gate_tells_two_kinds_apart() -> None:
    torch.manual_seed(1)
    direction = torch.randn(40)
    near, far = torch.randn(60, 40) + direction, torch.randn(400, 40)
    gate = separate(near[:30], far[:200])
    assert (gate(near[30:]) > 0).float().mean() > 0.9
    assert (gate(far[200:]) > 0).float().mean() < 0.1


def test_one_photo_teaches_nothing(photos: list[Photo], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cats: one photo teaches nothing about others"):
        teach(DataSet("cats", photos[:1]), bundled_checkpoint(), tmp_path)


def test_a_taught_checkpoint_can_become_what_it_was(taught: Path) -> None:
    before, after = CaptionModel.load(bundled_checkpoint()), untaught(CaptionModel.load(taught))
    assert after.vocabulary.words == before.vocabulary.words
    assert dataclasses.replace(after.config, scores={}) == dataclasses.replace(before.config, scores={})
    theirs = before.state_dict()
    assert all(tensor.half().equal(theirs[name].half()) for name, tensor in after.state_dict().items())
    for name in (MEMORY_FILE, KINDS_FILE):  # without which it could be taught, and trusted, no more
        assert (taught / name).read_bytes() == (bundled_checkpoint() / name).read_bytes()


def test_learners_side_by_side_learn_what_they_learn_alone(tiny_model: CaptionModel, photos: list[Photo]) -> None:
    tiny_model.decoder.requires_grad_(False)
    features = encode(stderr_console(), tiny_model, photos)
    lesson = prepare(tiny_model, photos, features, features.take(torch.arange(4)), 1)
    folds, learnt = [[0, 1, 2], [3, 4, 5], [6, 7]], []
    for workers in (1, 4):
        course = Course("mine", 2)
        watcher = Watcher(photos[0].path.parent, stderr_console())
        first, others = learn_all(stderr_console(), watcher, course, lesson, folds, workers)
        learnt.append([weight.clone() for decoder in (first, *others) for weight in decoder.parameters()])
        assert (len(course.taught), len(course.tried)) == (2, 2)
    assert all(one.equal(other) for one, other in zip(*learnt, strict=True))


def test_a_checkpoint_without_memory_is_refused(tiny_checkpoint: Path, photos: list[Photo], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"no {MEMORY_FILE}"):
        teach(DataSet("cats", photos), tiny_checkpoint, tmp_path)
