from pathlib import Path

import pytest
import torch
from fakes import WORDS

from capcli.checkpoints.caption_model import CaptionModel
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.model.config import DECODERS, ModelConfig
from capcli.model.decoders import NEVER_PRINTED
from capcli.model.encoders import Features
from capcli.model.vocabulary import START, UNKNOWN, Vocabulary


def features(batch: int, seed: int = 0) -> Features:
    annotations = torch.randn(batch, 4, 1280, generator=torch.Generator().manual_seed(seed))
    return Features(annotations, annotations.mean(1))


def test_teacher_forcing_equals_stepping(tiny_model: CaptionModel) -> None:
    decoder, given = tiny_model.decoder, features(2)
    words = torch.tensor([[[START, 4, 5, 9], [START, 6, 9, 10]], [[START, 7, 8, 4], [START, UNKNOWN, 5, 5]]])
    reading = decoder(given, words)
    state = decoder.start(given, 2)
    printable = [i for i in range(len(tiny_model.vocabulary)) if i not in NEVER_PRINTED]
    for time in range(4):
        step = decoder.step(words[:, :, time], state)
        state = step.state
        assert torch.allclose(step.logits[..., printable], reading.logits[:, :, time][..., printable], atol=1e-5)
        assert torch.allclose(step.attention, reading.attention[:, :, time], atol=1e-6)
        assert torch.allclose(step.gate, reading.gate[:, :, time], atol=1e-6)
        assert (step.logits[..., NEVER_PRINTED] == -torch.inf).all()
        assert torch.allclose(step.attention.sum(2), torch.ones(2, 2), atol=1e-6)


def test_beams_of_one_image_do_not_mix(tiny_model: CaptionModel) -> None:
    decoder, given = tiny_model.decoder, features(1)
    state = decoder.step(torch.tensor([[4, 5, 6]]), decoder.start(given, 3)).state
    moved = decoder.step(torch.tensor([[7, 8, 9]]), state.reorder(torch.tensor([[2, 2, 0]])))
    alone = decoder.step(torch.tensor([[6]]), decoder.start(given, 1)).state
    expected = decoder.step(torch.tensor([[7]]), alone)
    assert torch.allclose(moved.logits[0, 0], expected.logits[0, 0], atol=1e-5)
    assert not torch.allclose(moved.logits[0, 2], decoder.step(torch.tensor([[9]]), alone).logits[0, 0], atol=1e-3)


def test_kept_images_go_on_as_if_alone(tiny_model: CaptionModel) -> None:
    decoder, given = tiny_model.decoder, features(3)
    words = torch.tensor([[4], [5], [6]])
    state = decoder.step(words, decoder.start(given)).state
    kept = decoder.step(torch.tensor([[7], [7]]), state.keep(torch.tensor([0, 2])))
    everyone = decoder.step(torch.full((3, 1), 7), state)
    assert torch.allclose(kept.logits, everyone.logits[[0, 2]], atol=1e-5)


SIZES = {"hidden_size": 16, "embedding_size": 16, "attention_size": 16, "image_size": 64, "max_length": 6}


def make(decoder: str, feed_previous_word: bool = True) -> CaptionModel:
    torch.manual_seed(0)
    config = ModelConfig(decoder=decoder, feed_previous_word=feed_previous_word, **SIZES)
    model = CaptionModel(config, Vocabulary(WORDS)).eval()
    for parameter in model.decoder.parameters():
        parameter.data.mul_(3)
    return model


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("feed_previous_word", [True, False])
def test_every_decoder_steps_as_it_reads_and_is_saved(name: str, feed_previous_word: bool, tmp_path: Path) -> None:
    if name == "pre-inject" and not feed_previous_word:
        pytest.skip("pre-inject without words would be fed nothing at all")
    model = make(name, feed_previous_word)
    given, words = features(2), torch.tensor([[[START, 4, 5]], [[START, 6, 7]]])
    with torch.no_grad():
        reading, state = model.decoder(given, words), model.decoder.start(given)
        for time in range(3):
            step = model.decoder.step(words[:, :, time], state)
            state = step.state
            assert torch.allclose(step.logits[..., 4:], reading.logits[:, :, time, 4:], atol=1e-5)
    assert (step.attention is not None) == (name in ("soft", "hard"))
    if name == "hard":
        assert ((step.attention == 0) | (step.attention == 1)).all()
    model.save(tmp_path)
    loaded = CaptionModel.load(tmp_path)
    assert loaded.config == model.config
    found = [beam_search(m.decoder, given, BeamOptions(3, 6), m.vocabulary) for m in (model, loaded)]
    assert torch.equal(found[0].words, found[1].words)


@pytest.mark.parametrize("name", DECODERS)
def test_only_a_decoder_that_is_fed_words_depends_on_them(name: str) -> None:
    for feed in (True, False):
        if name == "pre-inject" and not feed:
            continue
        decoder = make(name, feed).decoder
        with torch.no_grad():
            a, b = (decoder(features(1), torch.tensor([[[START, word, 5]]])).logits[0, 0, 2] for word in (4, 6))
        assert torch.allclose(a, b, atol=1e-6) != feed


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_sees_the_image(name: str) -> None:
    decoder, words = make(name).decoder, torch.tensor([[[START, 4, 5]]])
    with torch.no_grad():
        a, b = (decoder(features(1, seed), words).logits for seed in (0, 1))
    assert (a - b).abs().max() > 1e-3


@pytest.mark.parametrize("name", DECODERS)
def test_bfloat16_rounds_and_keeps_the_original(name: str) -> None:
    torch.manual_seed(5)
    config = ModelConfig(image_size=64, decoder=name, hidden_size=16, embedding_size=16, attention_size=16)
    decoder = CaptionModel(config, Vocabulary(WORDS)).decoder.eval()
    rounded = decoder.in_number_format(torch.bfloat16)
    assert all(parameter.dtype == torch.float32 for parameter in decoder.parameters())
    given = features(3)
    lower = Features(given.annotations.bfloat16(), given.global_vector.bfloat16())
    words = torch.full((3, 1), START)
    with torch.no_grad():
        state, rounded_state = decoder.start(given), rounded.start(lower)
        for _ in range(4):
            step, rounded_step = decoder.step(words, state), rounded.step(words, rounded_state)
            state, rounded_state = step.state, rounded_step.state
            assert rounded_state.cell.dtype == rounded_step.logits.dtype == torch.float32
            assert rounded_state.hidden.dtype == torch.bfloat16
            expected = step.logits.softmax(2)
            assert torch.allclose(rounded_step.logits.softmax(2), expected, atol=0.02)
            words = expected.argmax(2)
