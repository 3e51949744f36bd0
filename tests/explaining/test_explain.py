import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import PHOTOS

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine
from capcli.explaining.doubting import AROUND, Judge, Noun
from capcli.explaining.printing import as_kinds, as_line, as_row, as_table, factor
from capcli.explaining.reading import explain, ranked
from capcli.model.kinds import Kinds, Named
from capcli.model.vocabulary import UNKNOWN
from capcli.results import ImageError

PHOTO = str(PHOTOS / "chelsea.jpg")


@pytest.fixture
def captioner(tiny_model: CaptionModel) -> Captioner:
    return Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))


def test_a_caption_has_the_log_probs_that_the_search_gave_it(captioner: Captioner) -> None:
    caption = captioner.caption(PHOTO, num=3)
    for candidate in caption.candidates:
        (found,) = explain(captioner, PHOTO, [candidate.text])
        assert found.words == candidate.words
        assert found.word_log_probs == pytest.approx(candidate.word_log_probs, abs=1e-4)
        assert found.log_prob == pytest.approx(candidate.log_prob, abs=1e-3)
        assert found.score == pytest.approx(candidate.score, abs=1e-3)
        assert found.gain == pytest.approx(captioner.gains([candidate])[0], abs=1e-3)
        assert np.allclose(found.attention, candidate.attention, atol=1e-5)
        assert np.allclose(found.gates, candidate.gates, atol=1e-5)


def test_many_sentences_are_read_as_each_alone(captioner: Captioner) -> None:
    sentences = ["a cat", "man on grass", "A dog's t-shirt on the grass!"] * 30
    together = explain(captioner, PHOTO, sentences)
    assert [e.text for e in together] == sentences
    for found, sentence in zip(together[-3:], sentences[-3:], strict=True):
        (alone,) = explain(captioner, PHOTO, [sentence])
        assert found.word_log_probs == pytest.approx(alone.word_log_probs, abs=1e-4)
        assert found.gains == pytest.approx(alone.gains, abs=1e-4)
        assert np.allclose(found.attention, alone.attention, atol=1e-5)


def test_unknown_words_are_named_and_keep_their_spelling(captioner: Captioner) -> None:
    (found,) = explain(captioner, PHOTO, ["a Zyzzyva on grass"])
    assert found.words == ("a", "zyzzyva", "on", "grass")
    assert found.unknown == (False, True, False, False)
    assert all(math.isfinite(p) and p < 0 for p in found.word_log_probs)
    assert "unknown: zyzzyva" in as_line(found)
    table = list(as_table(found))
    assert "not in the vocabulary" in table[2]
    assert [word["unknown"] for word in as_row(found)["words"]] == [False, True, False, False]


def test_doubt_is_what_the_photo_takes_away(captioner: Captioner) -> None:
    sentences = ["a cat on grass", "a dog on a man", "man man man cat"]
    results = explain(captioner, PHOTO, sentences)
    blank = np.full((64, 64, 3), 127, np.uint8)
    (as_blank,) = captioner.caption_pixels(blank[None], ["blank"], 1, captioner.options)
    (same,) = explain(captioner, PHOTO, [as_blank.text])
    # gain = log p(word | photo) − log p(word | blank)
    assert same.gains == pytest.approx(
        [a - b for a, b in zip(same.word_log_probs, as_blank.word_log_probs, strict=True)], abs=1e-4
    )
    assert any(any(e.doubted) for e in [*results, same])
    for e in results:
        assert e.doubted == tuple(gain < math.log(0.5) for gain in e.gains)  # it has neither agreement nor kinds
        marked = [line.startswith("?") for line in as_table(e)][1:-1]
        assert marked == list(e.doubted)
    assert [e.fit for e in ranked(results)] == sorted((e.fit for e in results), reverse=True)


def test_rows_hold_what_attention_json_holds_and_more(captioner: Captioner) -> None:
    (found,) = explain(captioner, PHOTO, ["a cat"])
    row = as_row(found)
    assert set(row) == {
        "path", "caption", "grid", "words", "fit", "log_prob", "score", "gain", "end_log_prob", "agreement", "kinds"
    }  # fmt: skip
    assert (row["agreement"], row["kinds"]) == (None, [])
    assert row["grid"] == [2, 2]
    assert row["path"] == PHOTO
    total = sum(word["log_prob"] for word in row["words"]) + row["end_log_prob"]
    assert total == pytest.approx(row["log_prob"], abs=1e-3)
    assert set(row["words"][0]) == {
        "word", "log_prob", "gate", "weights", "gain", "doubted", "unknown", "favourite", "rather"
    }  # fmt: skip
    assert set(row["words"][1]) - set(row["words"][0]) == {"standing", "ruled_out"}  # a noun


def test_sentences_without_words_and_unreadable_photos_say_why(captioner: Captioner, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'\?!' has no word"):
        explain(captioner, PHOTO, ["a cat", "?!"])
    with pytest.raises(ImageError, match="no such file"):
        explain(captioner, str(tmp_path / "absent.jpg"), ["a cat"])


@pytest.mark.parametrize(
    ("gain", "text"), [(0, "×1"), (math.log(2.5), "×2.5"), (math.log(38), "×38"), (-3, "×0.05"), (2000, "×inf")]
)
def test_factors_are_short(gain: float, text: str) -> None:
    assert factor(gain) == text


def test_nothing_is_suggested_in_place_of_itself(captioner: Captioner) -> None:
    (found,) = explain(captioner, PHOTO, ["a cat on grass"])
    end = "<end>"
    nouns = (None, Noun(better="dog"), None, Noun(), None)
    doubted = replace(found, gains=(-2.0,) * 5, favourites=("a", "cat", "on", "a", end), nouns=nouns)
    notes = [line.partition("rather: ")[2] for line in list(as_table(doubted))[1:-1]]
    assert notes == ["", "dog", "", "", ""]
    assert [word["rather"] for word in as_row(doubted)["words"]] == [None, "dog", None, None]


def test_length_does_not_decide_on_the_first_place(captioner: Captioner) -> None:
    short, long = explain(captioner, PHOTO, ["a cat", "a dog on a man on grass"])
    short = replace(short, gains=(0.0, 4.5, 0.0), agreement=0.7)
    long = replace(long, gains=(0.5, 1.5, 1.0, 0.5, 1.0, 0.5, 0.5, 0.0), agreement=0.0)
    assert long.gain > short.gain
    assert ranked([long, short]) == [short, long]
    assert short.fit == pytest.approx(4.5 / 3 + 2 * 0.7)
    assert replace(short, agreement=None).fit == pytest.approx(1.5)


def test_agreement_is_that_of_the_sentence(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    like(captioner, monkeypatch, cat=1.0)
    several = explain(captioner, PHOTO, ["a man on grass", "a cat"])
    assert [each.agreement for each in several] == [0.0, 1.0]
    assert as_row(several[1])["agreement"] == 1
    assert [noun is not None for noun in several[0].nouns] == [False, True, False, True, False]


def test_nouns_stand_by_others_in_their_place(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    like(captioner, monkeypatch, cat=0.5, dog=-0.5)
    judge = Judge(captioner, None)
    ids = captioner.vocabulary.ids
    even = np.zeros((3, len(ids)))
    even[:, ids["cat"]] = 1.0  # likely, photo or not
    spread = np.std([0.5, -0.5, 0, 0, 0])  # of cat, dog, man, grass and t-shirt
    _, dog, end = judge.nouns(("a", "dog"), (ids["a"], ids["dog"]), even, even)
    assert dog == Noun(pytest.approx(-0.5 / spread), False, "cat")
    assert end is None
    _, cat, _ = judge.nouns(("a", "cat"), (ids["a"], ids["cat"]), even, even)
    assert cat == Noun(pytest.approx(0.5 / spread), False, None)
    assert dog.is_doubted(2.0, math.log(0.5))
    assert not dog.is_doubted(9.0, math.log(0.5))
    assert not cat.is_doubted(-0.9, math.log(0.5))
    assert cat.is_doubted(-9.0, math.log(0.5))
    _, unknown, _ = judge.nouns(("a", "walrus"), (ids["a"], UNKNOWN), even, even)
    assert unknown == Noun()


def test_where_all_agree_alike_the_gain_decides(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    like(captioner, monkeypatch)  # as with what a checkpoint was taught
    (found,) = explain(captioner, PHOTO, ["a dog"])
    assert found.nouns[1] == Noun()
    assert [replace(found, gains=(0, gain, 0)).doubted[1] for gain in (-0.6, -0.8)] == [False, True]


@pytest.mark.parametrize(
    ("sentence", "shown", "doubted"),
    [
        ("a dog", {"cat": 1}, "dog"),
        ("two dogs", {"cat": 1}, "dogs"),
        ("a dog and a cat", {"cat": 1}, ""),
        ("a dog and a kitten", {"cat": 1}, ""),
        ("a dog", {"cat": 0.9, "dog": 0.1}, ""),
        ("a dog", {"cat": 0.9, "beagle": 0.1}, ""),
        ("a dog", {"cat": 0.4, "eagle": 0.3, "gull": 0.3}, ""),  # sure of nothing
        ("a bird", {"cat": 1}, "bird"),
        ("a bird", {"eagle": 1}, ""),
        ("a man with meat", {"eagle": 1}, ""),  # no kinds
        ("a hot dog", {"cat": 1}, ""),
        ("a walrus", {"cat": 1}, "walrus"),  # which the vocabulary lacks
    ],
)
def test_kinds_rule_nouns_out(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch, sentence: str, shown: dict[str, float], doubted: str
) -> None:
    give_kinds(captioner, monkeypatch, shown)
    (found,) = explain(captioner, PHOTO, [sentence])
    found = replace(found, gains=(0.0,) * len(found.gains))
    assert " ".join(word for word, doubt in zip(found.words, found.doubted, strict=False) if doubt) == doubted
    if doubted:
        assert found.rather[found.words.index(doubted)] == "cat"


def test_kinds_are_told_once_in_a_line_and_in_rows(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    give_kinds(captioner, monkeypatch, {"cat": 0.75, "dog": 0.2, "gull": 0.05})
    (found,) = explain(captioner, PHOTO, ["a dog"])
    assert as_kinds(found.caption.kinds).startswith("the photo shows above all: cat 75%, dog 20%")
    assert as_kinds(()) == ""
    assert as_row(found)["kinds"][0] == {"name": "cat", "probability": pytest.approx(0.75, abs=1e-3)}


def test_long_sentences_are_compared_around_each_noun(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    like(captioner, monkeypatch, cat=1.0)
    widths = []
    agree = captioner.engine.agree

    def noted(features: object, words: np.ndarray) -> np.ndarray:
        widths.append(words.shape)
        return agree(features, words)

    monkeypatch.setattr(captioner.engine, "agree", noted)
    explain(captioner, PHOTO, ["dog " * 200])
    compared = [shape for shape in widths if shape[1] > 1]
    assert len(compared) == 200
    assert max(time for _, _, time in compared) <= 2 * AROUND + 1


NAMES = (
    Named("cat", ("kitten",), (0,)),
    Named("dog", ("puppy",), (1,)),
    Named("beagle", ("dog",), (2,)),
    Named("eagle", ("bird",), (3,)),
    Named("gull", ("bird", "meat"), (4,)),
    Named("owl", ("bird",), (5,)),
    Named("walrus", (), (6,)),
)


def give_kinds(captioner: Captioner, monkeypatch: pytest.MonkeyPatch, shown: dict[str, float]) -> None:
    """Have an encoder know NAMES, and see these in every photo, with these probabilities."""
    bias = np.log([shown.get(named.name, 0) + 1e-6 for named in NAMES]).astype(np.float32)
    monkeypatch.setattr(captioner, "kinds", Kinds(NAMES, np.zeros((len(NAMES), 1), np.float32), bias))
    monkeypatch.setattr(captioner.engine, "vectors", lambda _: np.zeros((1, 1), np.float32))


def like(captioner: Captioner, monkeypatch: pytest.MonkeyPatch, **liked: float) -> None:
    """Have photos agree with sentences by the sum of what their words are given here."""
    worth = np.array([liked.get(word, 0.0) for word in captioner.vocabulary.words])
    monkeypatch.setattr(captioner, "config", replace(captioner.config, agreement_size=8))
    monkeypatch.setattr(captioner.engine, "agree", lambda _, words: worth[words].sum(2))
