"""What content words cost a sentence, and that captions say less for it."""

from dataclasses import replace

import numpy as np
from fakes import PHOTOS

from capcli.captioner import Captioner
from capcli.decoding.restraint import AGAIN, content_words, cost
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary

WORDS = Vocabulary([*SPECIAL_WORDS, "a", "dog", "on", "grass"])


def test_content_words_cost_and_more_where_they_come_again() -> None:
    content = content_words(WORDS)
    assert content.tolist() == [False] * 4 + [False, True, False, True]
    sentences = ["a", "a dog", "a dog on grass", "a dog on a dog", "grass grass grass"]
    ids = [WORDS.encode(sentence) for sentence in sentences]
    padded = np.array([[sentence + [0] * (5 - len(sentence)) for sentence in ids]])
    assert cost(padded, content).tolist() == [[0, 1, 2, 2 + AGAIN, 3 + 2 * AGAIN]]


def test_captions_say_less(tiny_captioner: Captioner) -> None:
    photo, content = PHOTOS / "coffee.jpg", tiny_captioner.content
    ids = tiny_captioner.vocabulary.ids
    plain = tiny_captioner.caption(photo, 5, replace(tiny_captioner.options, beam=5))
    for restraint in (0.0, 0.5):
        options = replace(tiny_captioner.options, beam=5, restraint=restraint)
        found = tiny_captioner.caption(photo, 5, options).candidates
        assert {c.text for c in found} == {c.text for c in plain.candidates}, "it ranks, and searches as before"
        for candidate in found:
            before = next(c for c in plain.candidates if c.text == candidate.text)
            costs = float(cost(np.array([ids[word] for word in candidate.words]), content))
            assert abs(before.score - restraint * costs - candidate.score) < 1e-5
        scores = [c.score for c in found]
        assert scores == sorted(scores, reverse=True)
