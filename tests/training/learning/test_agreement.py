"""Training what ranks captions: sentences are told from others', and dev photos choose what that counts."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from pathlib import Path

import pytest
import torch
from fakes import PHOTOS
from torch import Tensor

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import MEMORY_FILE, ModelError
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.model.agreement import Agreement
from capcli.model.encoders import Features
from capcli.progress import stderr_console
from capcli.training.data.datasets import DataError, DataSet, Photo
from capcli.training.data.features import encode_views
from capcli.training.learning import agreement as training
from capcli.training.learning.agreement import best, choose_weight, learn, learn_agreement, padded
from capcli.training.teaching.memory import write_memory

CPU = torch.device("cpu")
SAID = {
    "chelsea.jpg": ("a cat on grass", "a cat"),
    "coffee.jpg": ("a dog", "a dog on a dog"),
    "astronaut.jpg": ("a man", "a man's t-shirt"),
}


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    """Eight to learn from and three dev photos, which are the same three."""
    names = itertools.cycle(SAID)
    made = []
    for number, name in zip(range(11), names, strict=False):
        path = tmp_path / f"{number}.jpg"
        shutil.copy(PHOTOS / name, path)
        made.append(Photo(path, SAID[name], "train" if number < 8 else "dev"))
    return made


def test_each_photo_is_told_from_the_others_by_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EPOCHS", 150)  # of two steps each
    torch.manual_seed(5)
    vectors = torch.rand(24, 2, 24) * torch.linspace(0.1, 30, 24) + 5  # channels of very different scale
    vectors[:, 1] = vectors[:, 0] + 0.01  # two views of one photo
    captions = [[[[4 + i % 8, 12 + i // 8, 4 + i % 8]]] * 2 for i in range(24)]
    agreement = Agreement(24, 24, 64)
    losses = list(learn(agreement, vectors, captions, seed=1))
    assert losses[-1] < losses[0] / 2
    assert not agreement.training
    with torch.inference_mode():
        cosines = agreement.photos(vectors[:, 0]) @ agreement.sentences(padded([c[0][0] for c in captions])).T
    assert (cosines.argmax(1) == torch.arange(24)).float().mean() > 0.8


def test_the_same_seed_learns_the_same() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(2)
        agreement = Agreement(12, 6, 8)
        vectors = torch.rand(9, 2, 6, generator=torch.Generator().manual_seed(1))
        list(learn(agreement, vectors, [[[[4 + i % 8]]] * 2 for i in range(9)], seed=3))
        found.append(agreement.state_dict())
    assert all(found[0][name].equal(found[1][name]) for name in found[0])


def test_a_checkpoint_learns_to_rank(
    photos: list[Photo], tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "choose_weight", lambda *_: 2.0)
    before = CaptionModel.load(tiny_checkpoint)
    write_memory(tiny_checkpoint, before, photos[:3], CPU, 1)
    sets = [DataSet("three", photos)]
    learn_agreement(sets, tiny_checkpoint, tmp_path / "ranked", 4, CPU, 1, "capcli agree three")
    after = CaptionModel.load(tmp_path / "ranked")
    config = after.config
    assert (config.agreement, config.agreement_size, config.beam) == (2.0, training.SIZE, 4)
    assert config.scores.keys() == {"three"}
    assert config.unsure_below is not None
    assert config.training["begun_from"] == before.config.training
    stored = after.state_dict()
    for name, tensor in before.state_dict().items():
        assert stored[name].allclose(tensor.to(torch.float16).to(tensor.dtype)), name
    assert (tmp_path / "ranked" / MEMORY_FILE).read_bytes() == (tiny_checkpoint / MEMORY_FILE).read_bytes()
    card = (tmp_path / "ranked" / "README.md").read_text()
    assert "2 × the agreement with the photo added to the score" in card
    assert "capcli agree three" in card
    # PyTorch and ONNX Runtime read it, and rank alike.
    ours, theirs = (Captioner.load(tmp_path / "ranked", "cpu", "fp32", engine=name) for name in ("torch", "onnx"))
    for photo in photos[:3]:
        found = [captioner.caption(photo.path, 4).candidates for captioner in (ours, theirs)]
        assert [c.text for c in found[0]] == [c.text for c in found[1]]
        assert [c.score for c in found[0]] == sorted((c.score for c in found[0]), reverse=True)


class LikesHighIds:
    """Agrees with sentences by their words' numbers."""

    def photos(self, vectors: Tensor) -> Tensor:
        return vectors

    def __call__(self, photos: Tensor, words: Tensor) -> Tensor:
        return words.float().mean(2)


@pytest.mark.parametrize("weight", [0.0, 4.0])
def test_dev_photos_choose_what_agreement_counts(tiny_model: CaptionModel, photos: list[Photo], weight: float) -> None:
    """People said what one of the weights makes of the beam."""
    judge, dev = LikesHighIds(), [photo for photo in photos if photo.split == "dev"]
    features = Features.join(list(encode_views(tiny_model.encoder, dev, 1, 64, CPU, "fp32")))
    found = beam_search(tiny_model.decoder, features, BeamOptions(**tiny_model.config.decoding), tiny_model.vocabulary)
    said, usual = (
        best(found.words, found.scores + each * judge(features.global_vector, found.words), tiny_model.vocabulary)
        for each in (weight, 4.0 - weight)
    )
    assert said != usual
    people = [Photo(photo.path, (caption,), "dev") for photo, caption in zip(dev, said, strict=True)]

    def choose() -> float:
        return choose_weight(stderr_console(), tiny_model, judge, [DataSet("three", people)], CPU)  # type: ignore[arg-type]

    if weight:
        assert choose() > 0
    else:
        with pytest.raises(DataError, match="makes no dev caption better"):
            choose()


def test_without_dev_photos_a_weight_is_taken(photos: list[Photo], tiny_model: CaptionModel) -> None:
    agreement = Agreement(len(tiny_model.vocabulary), 1280, 8).eval()
    chosen = choose_weight(stderr_console(), tiny_model, agreement, [DataSet("eight", photos[:8])], CPU)
    assert chosen == training.UNTRIED_WEIGHT


def test_too_few_photos_and_taught_checkpoints_are_refused(
    photos: list[Photo], tiny_model: CaptionModel, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="3 training photos are too few"):
        learn_agreement([DataSet("three", photos[:3])], tmp_path, tmp_path / "out", None, CPU, 1, None)
    taught = CaptionModel(dataclasses.replace(tiny_model.config, words_before=8), tiny_model.vocabulary)
    taught.save(tmp_path / "taught")
    with pytest.raises(ModelError, match="was taught"):
        learn_agreement([DataSet("eight", photos)], tmp_path / "taught", tmp_path / "out", None, CPU, 1, None)
    assert not (tmp_path / "out").exists()
