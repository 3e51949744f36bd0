"""What is measured after each epoch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from fakes import PHOTOS, SMALLER
from rich.console import Console

from capcli.model.vocabulary import END
from capcli.training.data.datasets import behind_start
from capcli.training.learning.losses import caption_loss
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.setup import Setup, set_up
from capcli.training.measuring import validation
from capcli.training.measuring.validation import shown_photos, validate

SAID = (["a cat"], ["a cup of coffee", "coffee on a table"], ["an astronaut", "a woman who smiles"], ["a cat there"])
NAMES = ("chelsea.jpg", "coffee.jpg", "astronaut.jpg", "again.jpg")


@pytest.fixture
def setup(tmp_path: Path, no_java: None) -> Setup:
    shutil.copy(PHOTOS / "coffee.jpg", tmp_path / "taught.jpg")
    rows = [{"file_path": "taught.jpg", "captions": SAID[1], "split": "train"}]
    for name, captions in zip(NAMES, SAID, strict=True):
        shutil.copy(PHOTOS / name.replace("again", "chelsea"), tmp_path / name)
        rows.append({"file_path": name, "captions": captions, "split": "dev"})
    (tmp_path / "four.json").write_text(json.dumps(rows))
    options = TrainOptions((str(tmp_path / "four.json"),), epochs=1, captions_per_batch=2, precision="fp32", **SMALLER)
    setup = set_up(options, tmp_path / "run", torch.device("cpu"))
    setup.inputs.open(Console(quiet=True))
    setup.model.decoder.eval()
    return setup


@pytest.mark.parametrize(("most", "counted"), [(1000, [1, 2, 2, 1]), (1, [1, 1, 1, 1])])
def test_the_loss_of_dev_photos_is_that_of_each_word(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, most: int, counted: list[int]
) -> None:
    monkeypatch.setattr(validation, "LOSS_CAPTIONS", most)
    (scores,) = validate(setup)[0].values()
    (data_set,) = setup.sets
    total, words = 0.0, 0
    features = next(iter(setup.inputs.dev(data_set)))
    for i, captions in enumerate(SAID):
        for caption in captions[: counted[i]]:
            targets = torch.tensor([[[*setup.model.vocabulary.encode(caption), END]]])
            with torch.inference_mode():
                logits = setup.model.decoder(features.take(torch.tensor([i])), behind_start(targets)).logits
            total += caption_loss(logits, targets, setup.options.label_smoothing).item() * targets.numel()
            words += targets.numel()
    assert scores["loss"] == pytest.approx(total / words, rel=1e-5)


def test_some_captions_are_given_with_where_the_model_looked(setup: Setup) -> None:
    _, examples = validate(setup)
    assert [example.photo.path.name for example in examples] == list(NAMES[:3])
    assert shown_photos(setup.sets) == [example.photo for example in examples]
    for example in examples:
        assert example.said.attention.shape == (len(example.said.words), *setup.model.config.grid)
        assert example.said.attention.sum((1, 2)) == pytest.approx(1, abs=1e-5)
