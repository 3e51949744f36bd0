import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from capcli.decoding.beam_search import beam_search, block_repeats, forbid
from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import BeamOptions
from capcli.decoding.rules import Rules
from capcli.engines import numpy_search
from capcli.model.decoders import NEVER_PRINTED, AttentionDecoder, Step
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, SPECIAL_WORDS, START, Vocabulary

WORDS = Vocabulary([*SPECIAL_WORDS, "red", "and", "a", "bus"])


def make_decoder(seed: int) -> AttentionDecoder:
    torch.manual_seed(seed)
    decoder = AttentionDecoder(len(WORDS), 6, hidden_size=8, embedding_size=8, attention_size=8).eval()
    for parameter in decoder.parameters():
        parameter.data.mul_(3)
    return decoder


def make_features(batch: int, seed: int = 0) -> Features:
    annotations = torch.randn(batch, 4, 6, generator=torch.Generator().manual_seed(seed))
    return Features(annotations, annotations.mean(1))


ECHO = re.compile(r"\b(\w+)( and( a)?)? \1\b")


@torch.inference_mode()
def enumerate_sentences(
    decoder: AttentionDecoder, features: Features, options: BeamOptions
) -> list[tuple[float, list[int], list[float]]]:
    """Every possible sentence of one image with its score, by the definition, best first."""
    words = [w for w, word in enumerate(WORDS.words) if w not in (*NEVER_PRINTED, END) and word not in options.ban]
    found = []
    for length in range(1, options.max_length + 1):
        for sentence in itertools.product(words, repeat=length):
            if options.no_echo and ECHO.search(WORDS.decode(sentence)):
                continue
            state, log_probs = decoder.start(features), []
            for previous, word in zip((START, *sentence), (*sentence, END), strict=True):
                step = decoder.step(torch.tensor([[previous]]), state)
                state = step.state
                log_probs.append(float(step.logits[0, 0].log_softmax(0)[word]))
            found.append((sum(log_probs) / (length + 1) ** options.length_penalty, list(sentence), log_probs))
    return sorted(found, key=lambda f: -f[0])


def sentence(found: Hypotheses, image: int, rank: int) -> list[int]:
    return found.words[image, rank, : int(found.lengths[image, rank])].tolist()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("options", "count"),
    [
        (BeamOptions(0, 4, 0.0, no_echo=False), 4 + 16 + 64 + 256),
        (BeamOptions(0, 4, 0.7, no_echo=False), 4 + 16 + 64 + 256),
        (BeamOptions(0, 4, 1.0, no_echo=False), 4 + 16 + 64 + 256),
        (BeamOptions(0, 4, 1.0), 4 + 12 + 33 + 88),
        (BeamOptions(0, 4, 1.0, no_echo=False, ban=("bus", "train")), 3 + 9 + 27 + 81),
    ],
)
def test_a_wide_beam_finds_what_enumeration_finds(seed: int, options: BeamOptions, count: int) -> None:
    decoder, features = make_decoder(seed), make_features(1, seed)
    expected = enumerate_sentences(decoder, features, options)
    assert len(expected) == count
    found = beam_search(decoder, features, replace(options, beam=count), WORDS)
    assert torch.allclose(found.scores[0], torch.tensor([score for score, _, _ in expected]), atol=1e-5)
    for rank, (score, words, log_probs) in enumerate(expected):
        assert sentence(found, 0, rank) == words or found.scores[0, rank] == pytest.approx(score, abs=1e-5)
        if sentence(found, 0, rank) == words:
            assert found.word_log_probs[0, rank, : len(log_probs)].tolist() == pytest.approx(log_probs, abs=1e-5)
    assert {tuple(sentence(found, 0, rank)) for rank in range(len(expected))} == {tuple(w) for _, w, _ in expected}


def test_beam_one_is_greedy_search() -> None:
    decoder, features = make_decoder(5), make_features(6, 5)
    found = beam_search(decoder, features, BeamOptions(beam=1, max_length=7, no_echo=False), WORDS)
    for image in range(6):
        alone = Features(features.annotations[image : image + 1], features.global_vector[image : image + 1])
        state, word, greedy = decoder.start(alone), START, []
        for time in range(8):
            step = decoder.step(torch.tensor([[word]]), state)
            logits = step.logits[0, 0].clone()
            if time == 0:
                logits[END] = -torch.inf
            state, word = step.state, int(logits.argmax())
            if word == END or time == 7:
                break
            greedy.append(word)
        assert sentence(found, image, 0) == greedy


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_batched_equals_one_by_one_in_any_order(beam: int) -> None:
    decoder, features = make_decoder(1), make_features(9)
    options = BeamOptions(beam, max_length=8, length_penalty=0.8)
    together = beam_search(decoder, features, options, WORDS)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    shuffled = beam_search(
        decoder, Features(features.annotations[order], features.global_vector[order]), options, WORDS
    )
    for image in range(9):
        alone = Features(features.annotations[image : image + 1], features.global_vector[image : image + 1])
        single = beam_search(decoder, alone, options, WORDS)
        place = int((order == image).nonzero())
        for rank in range(beam):
            assert sentence(together, image, rank) == sentence(single, 0, rank) == sentence(shuffled, place, rank)
        assert torch.allclose(together.scores[image], single.scores[0], atol=1e-5)


@torch.inference_mode()
def test_attention_log_probs_and_gates_belong_to_their_words() -> None:
    decoder, features = make_decoder(2), make_features(4)
    found = beam_search(decoder, features, BeamOptions(3, 6), WORDS)
    for image, rank in itertools.product(range(4), range(3)):
        alone = Features(features.annotations[image : image + 1], features.global_vector[image : image + 1])
        state, previous = decoder.start(alone), START
        for time, word in enumerate([*sentence(found, image, rank), END]):
            step = decoder.step(torch.tensor([[previous]]), state)
            log_prob = step.logits[0, 0].log_softmax(0)[word]
            assert found.word_log_probs[image, rank, time] == pytest.approx(float(log_prob), abs=1e-5)
            if word != END:
                assert torch.allclose(found.attention[image, rank, time], step.attention[0, 0], atol=1e-5)
                assert found.attention[image, rank, time].sum() == pytest.approx(1, abs=1e-5)
                assert found.gates[image, rank, time] == pytest.approx(float(step.gate[0, 0]), abs=1e-5)
            state, previous = step.state, word


def test_scores_are_length_normalised_sums_best_first() -> None:
    options = BeamOptions(4, 6, 0.7)
    found = beam_search(make_decoder(4), make_features(5), options, WORDS)
    sums = found.word_log_probs.sum(2)
    assert torch.allclose(found.scores, sums / (found.lengths + 1) ** options.length_penalty, atol=1e-5)
    assert (found.scores.diff(dim=1) <= 0).all()
    longer = beam_search(make_decoder(4), make_features(5), replace(options, length_penalty=3.0), WORDS)
    assert longer.lengths[:, 0].sum() >= found.lengths[:, 0].sum()


def test_special_words_and_empty_sentences_never_come_out() -> None:
    for seed in range(5):
        found = beam_search(make_decoder(seed), make_features(8, seed), BeamOptions(3, 7), WORDS)
        for image, rank in itertools.product(range(8), range(3)):
            words = sentence(found, image, rank)
            assert words
            assert not {*NEVER_PRINTED, END} & set(words)


def test_fewer_sentences_than_beams_leave_empty_places() -> None:
    found = beam_search(make_decoder(0), make_features(2), BeamOptions(9, max_length=1), WORDS)
    assert found.scores.isfinite().sum(1).tolist() == [4, 4]
    assert (found.lengths > 0).sum(1).tolist() == [4, 4]


def test_a_likely_sentence_is_found_though_the_beam_is_full_of_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [*WORDS.encode("a red bus and a red"), END]
    step, scores = AttentionDecoder.step, torch.full((len(said), len(WORDS)), -1.5)
    scores[:, END] = 0.0
    scores[range(len(said)), said] = 3.0
    scores[:, list(NEVER_PRINTED)] = -torch.inf
    times = itertools.count()

    def by_heart(self: AttentionDecoder, *arguments: Any) -> Step:
        found = step(self, *arguments)
        return replace(found, logits=scores[min(next(times), len(said) - 1)].expand_as(found.logits).clone())

    monkeypatch.setattr(AttentionDecoder, "step", by_heart)
    found = beam_search(make_decoder(0), make_features(1), BeamOptions(5), WORDS)
    times = itertools.count()

    def advance(words: np.ndarray, state: numpy_search.State) -> numpy_search.Step:
        log_probs = scores[min(next(times), len(said) - 1)].log_softmax(0).expand(*words.shape, len(WORDS))
        return numpy_search.Step(log_probs.numpy().copy(), state, None, None)

    state = numpy_search.State(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), ())
    in_numpy = numpy_search.beam_search(advance, state, BeamOptions(5), WORDS)
    assert sentence(found, 0, 0) == in_numpy.words[0, 0].tolist() == said[:-1]
    assert float(found.scores[0, 0]) == pytest.approx(float(in_numpy.scores[0, 0]))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_no_sequence_of_words_comes_twice(length: int) -> None:
    decoder, features = make_decoder(4), make_features(6)
    decoder.output_bias.data[END] -= 8  # long sentences
    options = BeamOptions(3, max_length=12, length_penalty=2.0)
    free, strict = (beam_search(decoder, features, replace(options, no_repeat=n), WORDS) for n in (0, length))

    def repeating(found: Hypotheses) -> list[bool]:
        sentences = [
            w[:n] for w, n in zip(found.words.flatten(0, 1).tolist(), found.lengths.flatten().tolist(), strict=True)
        ]
        grams = [[tuple(s[i : i + length]) for i in range(len(s) - length + 1)] for s in sentences]
        return [len(set(several)) < len(several) for several in grams]

    assert any(repeating(free))
    assert not any(repeating(strict))
    assert (strict.lengths > 0).all()


def test_without_a_word_left_there_is_no_sentence() -> None:
    with pytest.raises(ValueError, match="all the words of the model are banned"):
        Rules.of(BeamOptions(ban=("red", "and", "a", "bus")), WORDS)
    assert Rules.of(BeamOptions(ban=("red", "Bus", "buses", "<end>")), WORDS).banned == (4,)


def test_echoes_are_heard_past_and() -> None:
    rules = Rules.of(BeamOptions(), WORDS)
    for said, never in (
        ("red", "red"),
        ("red and", "and red"),
        ("red and a", "a red"),
        ("red bus and", "and bus"),
        ("red bus and a", "a bus"),
        ("a red bus a", "a"),
        ("and a", "a"),
        ("bus a red", "red"),
    ):
        log_probs = torch.zeros(1, 1, len(WORDS))
        forbid(log_probs, torch.tensor([[WORDS.encode(said)]]), rules)
        assert {WORDS.words[i] for i in log_probs[0, 0].isinf().nonzero().flatten()} == set(never.split()), said


def test_only_repeats_are_blocked() -> None:
    log_probs = torch.zeros(1, 2, 9)
    block_repeats(log_probs, torch.tensor([[[4, 5, 6, 4, 5], [4, 5, 6, 5, 4]]]), 3)
    assert log_probs.isinf().nonzero().tolist() == [[0, 0, 6]]
