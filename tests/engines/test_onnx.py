"""ONNX Runtime says what PyTorch says: the same words, and the same numbers but for rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from fakes import KINDS, PHOTOS, TINY, WORDS, checkpoint_of
from PIL import Image

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.hub import bundled_checkpoint
from capcli.decoding.options import DecodingOptions
from capcli.engines.onnx import OnnxEngine
from capcli.engines.torch import TorchEngine
from capcli.explaining.reading import explain
from capcli.model.refiner import Refiner
from capcli.model.taught import TaughtDecoder
from capcli.model.vocabulary import Vocabulary
from capcli.results import Candidate

pytestmark = pytest.mark.slow

OPTIONS = (
    DecodingOptions(1, 6),
    DecodingOptions(3, 6, 0.7),
    DecodingOptions(5, 8, 0.7, no_repeat=1),
    DecodingOptions(12, 2, 2.0),
    DecodingOptions(2, 8, no_repeat=2),
    DecodingOptions(2, 6, diversity=1.5),
    DecodingOptions(3, 8, no_echo=False),
    DecodingOptions(3, 6, ban=("a", "man")),
    DecodingOptions(2, 6, diversity=1.5, ban=("cat",)),
    DecodingOptions(5, 6, 0.7, agreement=3.0),
)


def pair_of(model: CaptionModel) -> tuple[Captioner, Captioner]:
    """The same model in PyTorch and in ONNX Runtime."""
    return (
        Captioner(TorchEngine(model, torch.device("cpu"), "fp32")),
        Captioner(OnnxEngine(checkpoint_of(model), threads=1)),
    )


@pytest.fixture(scope="module")
def bundled() -> CaptionModel:
    return CaptionModel.load(bundled_checkpoint())


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, bundled: CaptionModel) -> CaptionModel:
    """A random decoder, its weights large enough that words depend on the picture, behind a trained encoder: a random
    one makes more of the last digit than a person would see."""
    torch.manual_seed(11)
    model = CaptionModel(dataclasses.replace(TINY, **KINDS[request.param]), Vocabulary(WORDS))
    model.encoder.load_state_dict(bundled.encoder.state_dict())
    for layer in (m for m in model.decoder.modules() if isinstance(m, Refiner)):  # which begins by changing nothing
        for parameter in layer.parameters():
            parameter.data += torch.empty_like(parameter).uniform_(-0.1, 0.1)
    for parameter in model.decoder.parameters():
        parameter.data.mul_(1.7)
    if isinstance(model.decoder, TaughtDecoder):  # half of the photos are near
        pixels = np.stack([np.asarray(photo.resize((64, 64))) for photo in photos(7)])
        vectors = model.encoder(torch.from_numpy(pixels).permute(0, 3, 1, 2)).global_vector
        model.decoder.near.bias.data -= model.decoder.near(vectors).median()
    return model.eval()


@pytest.fixture(scope="module")
def captioners(model: CaptionModel) -> tuple[Captioner, Captioner]:
    return pair_of(model)


@pytest.fixture(scope="module")
def bundled_captioners(bundled: CaptionModel) -> tuple[Captioner, Captioner]:
    return pair_of(bundled)


def photos(number: int) -> list[Image.Image]:
    """Different pieces of the photos."""
    whole = [Image.open(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    return [whole[i % 3].crop((7 * i, 5 * i, 7 * i + 130, 5 * i + 110)) for i in range(number)]


def both(captioners: tuple[Captioner, Captioner], number: int, num: int, options: DecodingOptions) -> Iterator:
    """Pairs of candidates of the same image and rank."""
    ours, theirs = (list(captioner.stream(photos(number), num, options, batch_size=32)) for captioner in captioners)
    for our, their in zip(ours, theirs, strict=True):
        yield from zip(our.candidates, their.candidates, strict=True)


def check(ours: Candidate, theirs: Candidate) -> None:
    assert ours.words == theirs.words
    assert theirs.score == pytest.approx(ours.score, abs=1e-5)
    assert theirs.word_log_probs == pytest.approx(ours.word_log_probs, abs=1e-4)
    for name in ("attention", "gates"):
        our, their = getattr(ours, name), getattr(theirs, name)
        assert (our is None) == (their is None)
        if our is not None:
            assert their.dtype == np.float32
            assert their.shape == our.shape
            assert np.allclose(their, our, atol=1e-4)


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
def test_beams_find_the_same_sentences(captioners: tuple[Captioner, Captioner], options: DecodingOptions) -> None:
    pairs = list(both(captioners, 7, 3, options))
    for ours, theirs in pairs:
        check(ours, theirs)
    assert len({ours.words for ours, _ in pairs}) > 2


@pytest.mark.parametrize("number", [1, 7, 32])
def test_batches_of_any_size_give_the_same(bundled_captioners: tuple[Captioner, Captioner], number: int) -> None:
    for ours, theirs in both(bundled_captioners, number, 1, bundled_captioners[0].options):
        check(ours, theirs)


def test_gains_are_the_same(bundled_captioners: tuple[Captioner, Captioner]) -> None:
    paths = sorted(PHOTOS.glob("*.jpg"))
    ours, theirs = (captioner.caption(paths) for captioner in bundled_captioners)
    assert [caption.gain for caption in theirs] == pytest.approx([caption.gain for caption in ours], abs=1e-4)


def test_sentences_are_read_the_same(captioners: tuple[Captioner, Captioner]) -> None:
    ours, theirs = (explain(c, PHOTOS / "chelsea.jpg", ["a cat", "man on zyzzyva grass a"]) for c in captioners)
    for our, their in zip(ours, theirs, strict=True):
        check(our.best, their.best)
        assert their.gains == pytest.approx(our.gains, abs=1e-4)
        assert (their.favourites, their.unknown) == (our.favourites, our.unknown)
