"""What ONNX Runtime draws: words and locations, by their probabilities and from a seed."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from fakes import PHOTOS, checkpoint_of

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import Checkpoint
from capcli.decoding.options import DecodingOptions
from capcli.engines.numpy_sampling import draw
from capcli.engines.onnx import OnnxEngine
from capcli.model.vocabulary import START


@pytest.fixture
def soft(tiny_model: CaptionModel) -> Checkpoint:
    return checkpoint_of(tiny_model)


@pytest.fixture
def hard(soft: Checkpoint) -> Checkpoint:
    """The same weights behind hard attention."""
    return dataclasses.replace(soft, config=dataclasses.replace(soft.config, decoder="hard"))


def test_indices_are_drawn_by_their_probabilities() -> None:
    probabilities = np.array([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    drawn = draw(np.tile(4 * probabilities, (20_000, 1)), np.random.default_rng(0))
    assert np.bincount(drawn, minlength=6) / 20_000 == pytest.approx(probabilities, abs=0.015)


def test_words_are_drawn_by_their_probabilities(soft: Checkpoint) -> None:
    engine = OnnxEngine(soft)
    features = engine.encode(np.zeros((1, 64, 64, 3), np.uint8))
    log_probs, _ = engine.step(np.array([[START]]), features, np.array([[0]]))
    probabilities = np.exp(log_probs[0, 0])
    probabilities[2] = 0  # a sentence does not end before it begins

    def shares(**options: float) -> np.ndarray:
        found = engine.search(features, 4000, DecodingOptions(1, 1, sample=True, seed=3, **options))
        assert found.scores[0].tolist() == sorted(found.scores[0], reverse=True)
        return np.bincount(found.words[0, :, 0], minlength=len(probabilities)) / 4000

    assert shares() == pytest.approx(probabilities / probabilities.sum(), abs=0.03)
    sharper = probabilities**2
    assert shares(temperature=0.5) == pytest.approx(sharper / sharper.sum(), abs=0.03)
    likeliest = np.argmax(probabilities)
    assert shares(top_p=0.01)[likeliest] == 1


@pytest.mark.parametrize("how", [{"sample": True}, {"diversity": 1.0}])
def test_what_must_not_be_said_is_not_drawn_either(soft: Checkpoint, how: dict) -> None:
    soft.tensors["decoder.output_bias"][2] -= 8  # long sentences
    engine = OnnxEngine(soft)
    features = engine.encode(np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8))

    def said(**rules: object) -> list[list[int]]:
        found = engine.search(features, 40, DecodingOptions(3, 9, seed=1, **how, **rules))
        return [words[words > 0].tolist() for image in found.words for words in image]

    def doubled(sentences: list[list[int]]) -> bool:
        return any(a == b for words in sentences for a, b in itertools.pairwise(words))

    assert doubled(said(no_echo=False))
    assert not doubled(said())
    cat = soft.vocabulary.ids["cat"]
    assert any(cat in words for words in said())
    assert not any(cat in words for words in said(ban=("cat",)))


def test_locations_are_the_ones_that_points_choose(soft: Checkpoint, hard: Checkpoint) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), np.uint8)
    words, points = np.full((5, 1), START), np.linspace(0.01, 0.99, 5, dtype=np.float32)[:, None]
    soft_engine, hard_engine = OnnxEngine(soft), OnnxEngine(hard)
    distribution = soft_engine.advance(words, soft_engine.encode(pixels)).attention
    looked = hard_engine.advance_by_points(words, hard_engine.encode(pixels), points).attention
    likeliest = hard_engine.advance(words, hard_engine.encode(pixels)).attention
    expected = (distribution.cumsum(2) <= points[:, :, None]).sum(2)
    assert looked.argmax(2).tolist() == expected.tolist()
    assert likeliest.argmax(2).tolist() == distribution.argmax(2).tolist()
    for weights in (looked, likeliest):
        assert weights.sum(2).tolist() == [[1]] * 5
        assert set(weights.flatten().tolist()) == {0, 1}


def test_sampled_locations_give_the_mean_probability(hard: Checkpoint) -> None:
    """With one word to say, the mean over many samples is what each location gives, weighted by its probability."""
    engine = OnnxEngine(hard)
    features = engine.encode(np.random.default_rng(1).integers(0, 255, (1, 64, 64, 3), np.uint8))
    distribution = OnnxEngine(
        dataclasses.replace(hard, config=dataclasses.replace(hard.config, decoder="soft"))
    ).advance(np.array([[START]]), features).attention[0, 0]  # fmt: skip
    reached = distribution.cumsum()
    middles = (reached - distribution / 2)[None].astype(np.float32)
    count = len(distribution)
    each = engine.advance_by_points(np.full((1, count), START), features.repeat(count), middles).log_probs[0]
    expected = (distribution[:, None] * np.exp(each)).sum(0)
    options = DecodingOptions(1, 1, attention_samples=4000, seed=5)
    found = engine.search(features, 1, options)
    word = found.words[0, 0, 0]
    assert np.exp(found.word_log_probs[0, 0, 0]) == pytest.approx(expected[word], abs=0.02)
    assert found.attention[0, 0, 0] == pytest.approx(distribution, abs=0.03)


@pytest.mark.parametrize(
    "how", [{"sample": True, "top_p": 0.9}, {"attention_samples": 3}, {"attention_samples": 2, "diversity": 0.5}]
)
def test_a_seed_draws_the_same_again(hard: Checkpoint, how: dict) -> None:
    captioner = Captioner(OnnxEngine(hard))
    paths = sorted(PHOTOS.glob("*.jpg"))
    state = torch.get_rng_state()

    def said(seed: int | None) -> tuple[tuple, ...]:
        options = DecodingOptions(2, 6, seed=seed, **how)
        captions = captioner.stream(paths, 2, options, batch_size=2)
        return tuple((c.words, c.word_log_probs) for caption in captions for c in caption.candidates)  # type: ignore[union-attr]

    assert said(1) == said(1)
    assert len({said(seed) for seed in range(10)}) > 1
    assert len({said(None) for _ in range(10)}) > 1  # two may well be the same
    assert torch.equal(torch.get_rng_state(), state)


def test_only_hard_attention_samples_locations(soft: Checkpoint) -> None:
    engine = OnnxEngine(soft)
    features = engine.encode(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="only hard attention samples locations"):
        engine.search(features, 1, DecodingOptions(attention_samples=2))
    with pytest.raises(ValueError, match="ask for 2 or more"):
        engine.search(features, 1, DecodingOptions(diversity=1.0))
