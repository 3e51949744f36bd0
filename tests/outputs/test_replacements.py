"""Other words in place of the model's: what is written, and what stays."""

from __future__ import annotations

import pytest

from capcli.outputs.replacements import Replacements
from capcli.results import Candidate, Caption, ImageError


@pytest.mark.parametrize(
    ("pairs", "text", "written"),
    [
        ([], "a man on a bike", "a man on a bike"),
        (["man=person"], "a man beside a man's woman", "a person beside a person's woman"),
        (["shirt=blouse"], "a t-shirt and a shirt", "a t-shirt and a blouse"),
        (["man=woman", "woman=man"], "a man and a woman", "a woman and a man"),
        (["dog=animal", "a dog=an animal"], "a dog and the dog", "an animal and the animal"),
        (["dirt  bike=motocross bike"], "a dirt bike in the dirt", "a motocross bike in the dirt"),
        (["young=", "red="], "a young red man in red", "a man in"),
        (["red="], "red", ""),
        (["cat=cat=dog"], "a cat", "a cat=dog"),
        ([".*=x", r"a=\1"], "a b", r"\1 b"),
        (["A=b"], "a b", "a b"),
    ],
)
def test_words_are_replaced_whole_and_once(pairs: list[str], text: str, written: str) -> None:
    assert Replacements(pairs).apply(text) == written


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["man"], "'man' is not of the form OLD=NEW"),
        (["=man"], "'=man' is not of the form OLD=NEW"),
        ([" =man"], "' =man' is not of the form OLD=NEW"),
        (["man=a", "man=b"], "'man' is to be replaced twice"),
    ],
)
def test_what_is_no_pair_is_refused(pairs: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Replacements(pairs)


def test_the_model_keeps_its_words() -> None:
    candidate = Candidate("a man", ("a", "man"), (-0.1, -0.2, -0.3), -0.6, -0.2)
    failure = ImageError("b.jpg", "broken")
    caption, same = Replacements(["man=person"]).reword([Caption("a.jpg", (candidate, candidate)), failure])
    assert isinstance(caption, Caption)
    assert [each.text for each in caption.candidates] == ["a person"] * 2
    assert caption.words == ("a", "man")
    assert caption.word_log_probs == candidate.word_log_probs
    assert same is failure


def test_keywords_are_replaced_too() -> None:
    candidate = Candidate("a man", ("a", "man"), (-0.1, -0.2, -0.3), -0.6, -0.2)
    captions = [Caption("a.jpg", (candidate,), keywords=words) for words in (("man", "person", "red car"), (), None)]
    reworded = Replacements(["man=person", "red car="]).reword([*captions])
    assert [caption.keywords for caption in reworded] == [("person",), (), None]  # type: ignore[union-attr]
