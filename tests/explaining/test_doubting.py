"""Which nouns of a sentence are doubted, and what would stand there rather."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import PHOTOS

from capcli.captioner import Captioner
from capcli.explaining.doubting import AROUND, Judge, Noun
from capcli.explaining.printing import as_kinds, as_row
from capcli.explaining.reading import explain
from capcli.model.kinds import Kinds, Named
from capcli.model.vocabulary import UNKNOWN

PHOTO = str(PHOTOS / "chelsea.jpg")


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
