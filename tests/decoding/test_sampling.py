import itertools
from typing import Any

import pytest
import torch

from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions, DecodingOptions
from capcli.decoding.sampling import SampledAttention, decode, diverse_beams, draw, sample
from capcli.model.attention import HardAttention
from capcli.model.decoders import AttentionDecoder, State, Step
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, SPECIAL_WORDS, START, Vocabulary

OPTIONS = BeamOptions(3, 5, 0.7)
WORDS = Vocabulary([*SPECIAL_WORDS, *"vwxyz"])


def make_decoder(hard: bool = False) -> AttentionDecoder:
    torch.manual_seed(2)
    decoder = AttentionDecoder(9, 6, 8, 8, 8, hard=hard).eval()
    for parameter in decoder.parameters():
        parameter.data.mul_(3)
    return decoder


def make_features(batch: int) -> Features:
    annotations = torch.randn(batch, 4, 6, generator=torch.Generator().manual_seed(0))
    return Features(annotations, annotations.mean(1))


@torch.no_grad()
def log_probs_of(decoder: AttentionDecoder, features: Features, image: int, words: list[int]) -> list[float]:
    alone = Features(features.annotations[image : image + 1], features.global_vector[image : image + 1])
    state, previous, found = decoder.start(alone), START, []
    for word in [*words, END]:
        step = decoder.step(torch.tensor([[previous]]), state)
        found.append(float(step.logits[0, 0].log_softmax(0)[word]))
        state, previous = step.state, word
    return found


@pytest.mark.parametrize("how", ["sample", "diverse"])
def test_sentences_come_sorted_with_their_own_log_probs(how: str) -> None:
    decoder, features = make_decoder(), make_features(3)
    torch.manual_seed(1)
    if how == "sample":
        found = sample(decoder, features, 4, OPTIONS, WORDS, temperature=1.5)
    else:
        found = diverse_beams(decoder, features, 4, OPTIONS, WORDS, diversity=2.0)
    assert (found.scores.diff(dim=1) <= 0).all()
    for image in range(3):
        for rank in range(4):
            length = int(found.lengths[image, rank])
            words = found.words[image, rank, :length].tolist()
            assert 1 <= length <= 5
            expected = log_probs_of(decoder, features, image, words)
            assert found.word_log_probs[image, rank, : length + 1].tolist() == pytest.approx(expected, abs=1e-5)
            assert found.word_log_probs[image, rank, length + 1 :].abs().sum() == 0
            assert found.scores[image, rank] == pytest.approx(sum(expected) / (length + 1) ** 0.7, abs=1e-5)
            assert torch.allclose(found.attention[image, rank, :length].sum(1), torch.ones(length), atol=1e-5)


def test_first_words_follow_temperature_and_nucleus() -> None:
    decoder, features = make_decoder(), make_features(1)
    logits = decoder.step(torch.tensor([[START]]), decoder.start(features)).logits[0, 0].detach()
    logits[END] = -torch.inf

    def shares(**options: float) -> torch.Tensor:
        torch.manual_seed(0)
        found = sample(decoder, features, 6000, OPTIONS, WORDS, **options)
        return torch.bincount(found.words[0, :, 0], minlength=9) / 6000

    # The step's own log-probabilities include <end>; only the drawing leaves it out.
    expected = logits.softmax(0)
    assert torch.allclose(shares(), expected, atol=0.025)
    assert torch.allclose(shares(temperature=0.5), (logits / 0.5).softmax(0), atol=0.025)
    ordered = expected.sort(descending=True)
    kept = ordered.indices[: int((ordered.values.cumsum(0) < 0.7).sum()) + 1]
    assert set(shares(top_p=0.7).nonzero().flatten().tolist()) == set(kept.tolist())


def test_drawing_is_repeatable_and_cold_sampling_is_greedy() -> None:
    decoder, features = make_decoder(), make_features(4)
    draws = []
    for _ in range(2):
        torch.manual_seed(5)
        draws.append(sample(decoder, features, 2, OPTIONS, WORDS).words)
    assert torch.equal(*draws)
    greedy = beam_search(decoder, features, BeamOptions(1, 5, 0.7), WORDS)
    cold = sample(decoder, features, 1, OPTIONS, WORDS, temperature=0.01)
    assert [w[w > 0].tolist() for w in cold.words[:, 0]] == [w[w > 0].tolist() for w in greedy.words[:, 0]]


@pytest.mark.parametrize("how", [{"sample": True, "temperature": 2.0}, {"diversity": 1.0}])
def test_what_must_not_be_said_is_not_drawn_either(how: dict[str, Any]) -> None:
    decoder, features = make_decoder(), make_features(4)
    decoder.output_bias.data[END] -= 8  # long sentences

    def said(**rules: Any) -> list[list[int]]:
        found = decode(decoder, features, 40, DecodingOptions(3, 9, seed=1, **how, **rules), WORDS)
        return [words[words > 0].tolist() for words in found.words.flatten(0, 1)]

    def doubled(sentences: list[list[int]]) -> bool:
        return any(a == b for words in sentences for a, b in itertools.pairwise(words))

    assert doubled(said(no_echo=False))
    assert not doubled(said())
    assert any(5 in words for words in said())
    assert not any(5 in words for words in said(ban=("w",)))


def test_diversity_makes_groups_differ() -> None:
    decoder, features = make_decoder(), make_features(4)
    none = diverse_beams(decoder, features, 4, OPTIONS, WORDS, diversity=0.0)
    assert (none.words == none.words[:, :1]).all()
    strong = diverse_beams(decoder, features, 4, OPTIONS, WORDS, diversity=1e4)
    assert all(len(set(strong.words[image, :, 0].tolist())) == 4 for image in range(4))


def test_sampled_attention_averages_probabilities_over_locations() -> None:
    decoder, features = make_decoder(hard=True), make_features(2)
    assert isinstance(decoder.attention, HardAttention)
    start = torch.full((2, 1), START)
    with torch.no_grad():
        distribution = decoder.attention.distribution(
            decoder.start(features).hidden, decoder.attention.keys(torch.relu(decoder.annotation(features.annotations)))
        )
        expected = torch.zeros(2, 9)
        for location in range(4):  # enumerate the first glance
            one = torch.zeros(1, 1, 4)
            one[..., location] = 1
            decoder.attention.choose = lambda d, _, one=one: one.expand_as(d)
            probabilities = decoder.step(start, decoder.start(features)).logits.softmax(2)[:, 0]
            expected += distribution[:, 0, location : location + 1] * probabilities
        del decoder.attention.choose
        sampled = SampledAttention(decoder, 4000, torch.Generator().manual_seed(0))
        step = sampled.step(start, sampled.start(features))
    assert torch.allclose(step.logits[:, 0].exp(), expected, atol=0.02)
    assert torch.allclose(step.attention[:, 0], distribution[:, 0], atol=0.03)


def test_sampled_attention_stands_in_for_the_decoder_in_beam_search() -> None:
    decoder, features = make_decoder(hard=True), make_features(5)
    found = decode(decoder, features, 2, DecodingOptions(2, 5, attention_samples=8, seed=3), WORDS)
    assert (found.scores.diff(dim=1) <= 0).all()
    assert torch.allclose(found.word_log_probs.sum(2) / (found.lengths + 1), found.scores, atol=1e-5)
    with pytest.raises(ValueError, match="only hard attention"):
        decode(make_decoder(), features, 1, DecodingOptions(2, 5, attention_samples=8), WORDS)


@pytest.mark.parametrize("how", [{"sample": True}, {"attention_samples": 8}, {"sample": True, "attention_samples": 8}])
def test_what_is_drawn_is_drawn_from_a_generator_of_its_own(how: dict[str, Any]) -> None:
    decoder, features = make_decoder(hard=True), make_features(4)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    first, second = (decode(decoder, features, 3, DecodingOptions(3, 5, **how, seed=1), WORDS) for _ in range(2))
    assert torch.equal(first.word_log_probs, second.word_log_probs)
    assert torch.equal(torch.get_rng_state(), before)
    # Without a seed it follows PyTorch's own generator, as everything else does.
    third = decode(decoder, features, 3, DecodingOptions(3, 5, **how), WORDS)
    fourth = decode(decoder, features, 3, DecodingOptions(3, 5, **how), WORDS)
    torch.manual_seed(6)
    again = decode(decoder, features, 3, DecodingOptions(3, 5, **how), WORDS)
    assert torch.equal(third.word_log_probs, again.word_log_probs)
    assert not torch.equal(third.scores, fourth.scores)


def test_draws_follow_their_probabilities_and_never_the_impossible() -> None:
    torch.manual_seed(5)
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    drawn = draw(probabilities.expand(30, 1000, 6))
    assert drawn.shape == (30, 1000)
    shares = torch.bincount(drawn.flatten(), minlength=6) / drawn.numel()
    assert torch.allclose(shares, probabilities, atol=0.01)
    assert shares[probabilities == 0].sum() == 0


def test_finished_groups_do_not_repel_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = make_decoder()
    # What each of three groups likes best, step by step; the last word is forced. The first ends after one word.
    likes = iter([[5, 6, 7], [END, 5, 6], [5, 5, 4], [5, 5, 5]])

    def step(words: torch.Tensor, state: State) -> Step:
        return Step(3 * torch.nn.functional.one_hot(torch.tensor([next(likes)]), 9).float(), state, None, None)

    monkeypatch.setattr(decoder, "step", step)
    found = diverse_beams(decoder, make_features(1), 3, BeamOptions(3, 3, no_echo=False), WORDS, diversity=10.0)
    assert sorted(found.words[0].tolist()) == [[5, 0, 0], [6, 5, 5], [7, 6, 4]]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"beam": 0}, "beam is 0, not between 1 and 100"),
        ({"max_length": 0}, "max_length is 0"),
        ({"no_repeat": -1}, "no_repeat is -1"),
        ({"temperature": 1e-40}, "temperature is 1e-40, not between 0.01 and 100"),
        ({"temperature": float("nan")}, "temperature is nan, not between"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"length_penalty": float("nan")}, "length_penalty is nan"),
        ({"length_penalty": float("-inf")}, "length_penalty is -inf"),
        ({"length_penalty": 1000.0}, "length_penalty is 1000.0, not between -10 and 10"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"diversity": float("inf")}, "diversity is inf"),
        ({"seed": 2**64}, "seed is 18446744073709551616, not between -9223372036854775808 and 18446744073709551615"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"diversity": -1.0}, "diversity is -1.0"),
        ({"sample": True, "diversity": 0.5}, "cannot be combined with diversity"),
    ],
)
def test_what_no_decoding_can_follow_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DecodingOptions(**values)


def test_one_sentence_cannot_be_diverse() -> None:
    with pytest.raises(ValueError, match="diversity needs 2 candidates or more"):
        decode(make_decoder(), make_features(1), 1, DecodingOptions(diversity=0.5), WORDS)
