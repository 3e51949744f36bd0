"""Which words of captions are keywords, and which of them an image gets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from capcli.outputs.keywords import is_keyword, keywords_of, lists, nouns_and_attributes, with_keywords
from capcli.results import Candidate, Caption, Kind

ROOT = Path(__file__).parent.parent.parent


def candidate(text: str, log_prob: float = -1.0, **probabilities: float) -> Candidate:
    """A caption whose words are all as probable as can be, but for those that are named."""
    words = tuple(text.split())
    each = [math.log(probabilities.get(word.replace("-", "_"), 1.0)) for word in words]
    return Candidate(text, words, (*each, 0.0), log_prob, log_prob / len(words))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a black and white dog is running through the grass", "black white dog grass"),
        ("a little girl in a pink dress is sitting on a wooden bench next to men", "girl pink dress wooden bench men"),
        ("a group of young people quickly jumps over a red shed in the snow-covered city", "young people red shed "
         "snow-covered city"),
        ("a man 's dog wears a striped t-shirt and looks at the camera", "man dog striped t-shirt"),
        ("a man holds a drink in front of a building during a wedding", "man drink building wedding"),
        ("an elderly family is surfing", "elderly family surfing"),
        ("a <unk> is on top of a 2 !", ""),
        ("two men eat hot dogs near a fire hydrant and a hot stove", "men|hot dogs|fire hydrant|hot|stove"),
        ("a hot dog", "hot dog|"),
    ],
)  # fmt: skip
def test_nouns_and_attributes_are_told_from_the_rest(caption: str, expected: str) -> None:
    words = caption.split()
    found = [word for word, _ in nouns_and_attributes(words, [0.0] * (len(words) + 1))]
    assert found == [word for word in expected.split("|" if "|" in expected else " ") if word]


def test_most_words_of_the_vocabulary_are_keywords_and_its_verbs_are_not() -> None:
    vocabulary = json.loads((ROOT / "weights" / "vocabulary.json").read_text("utf-8"))
    words = vocabulary if isinstance(vocabulary, list) else vocabulary["words"]
    kept = [word for word in words if is_keyword(word)]
    assert 0.55 < len(kept) / len(words) < 0.7
    assert not {"standing", "sitting", "holding", "dressed", "filled", "quickly", "runs", "through", "group"} & {*kept}
    assert not lists().kept & lists().left_out


def test_a_keyword_scores_what_the_model_gave_it_in_all_captions() -> None:
    both = [candidate("a cat on a table", -1.0, cat=0.8, table=0.1), candidate("a cat on a chair", -1.0, cat=0.6)]
    assert keywords_of(both) == ("cat", "chair")  # 0.7 and 0.5; the table has 0.05
    assert keywords_of(both, min_score=0.05) == ("cat", "chair", "table")
    assert keywords_of(both, most=1) == ("cat",)
    assert keywords_of(both, min_score=0.71) == ()
    likelier = [both[0], candidate("a cat on a chair", -5.0, cat=0.6)]
    assert keywords_of(likelier, min_score=0.0) == ("cat", "table", "chair")
    assert keywords_of([]) == ()


def test_kinds_that_are_sure_are_keywords_too() -> None:
    said = [candidate("a bear on a rock", bear=0.6, rock=0.75)]
    assert keywords_of(said, kinds=(Kind("polar bear", 0.7), Kind("seal", 0.69))) == ("rock", "polar bear")
    assert keywords_of(said, kinds=(Kind("bear", 0.9),)) == ("bear", "rock")
    assert keywords_of(said, kinds=(Kind("seal", 0.8),), most=1) == ("seal",)
    assert with_keywords(Caption("a.jpg", tuple(said), kinds=(Kind("seal", 0.8),)), 1).keywords == (
        "seal",
        "rock",
        "bear",
    )


def test_a_word_said_twice_counts_once_and_one_of_two_forms_is_enough() -> None:
    assert keywords_of([candidate("a dog and a dog", dog=0.5)]) == ("dog",)
    assert keywords_of([candidate("two dogs and a dog", dog=0.5)]) == ("dogs",)
    assert keywords_of([candidate("a bench with benches", benches=0.5)]) == ("bench",)
    assert keywords_of([candidate("a glass of grass on a bus")]) == ("glass", "grass", "bus")
    assert keywords_of([candidate("a pool"), candidate("a swimming pool", pool=0.5)]) == ("pool",)
    assert keywords_of([candidate("a baseball player with a baseball bat")]) == ("baseball player", "baseball bat")


def test_a_caption_keeps_the_candidates_that_were_asked_for() -> None:
    caption = Caption("a.jpg", (candidate("a cat"), candidate("a dog"), candidate("a man")))
    with_them = with_keywords(caption, 2)
    assert [each.text for each in with_them.candidates] == ["a cat", "a dog"]
    assert with_them.keywords == ("cat", "dog", "man")
    assert caption.keywords is None
