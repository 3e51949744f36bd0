"""What tells how likely a caption is right."""

import pytest

from capcli.model.confidence import CLUES, clues_of, confidence
from capcli.model.kinds import Named
from capcli.results import Candidate, Kind

SAID = Candidate("a cat on a sofa", ("a", "cat", "on", "a", "sofa"), (-0.1, -0.5, -0.2, -3.0, -0.9, -0.1), -4.8, 1.2)
NAMES = {"tiger": Named("tiger", ("cat",), (0,)), "dog": Named("dog", (), (1,))}


def test_clues_are_of_the_content_words_and_the_kinds_that_are_said() -> None:
    clues = clues_of(SAID, 12.0, [Kind("tiger", 0.6), Kind("dog", 0.3)], NAMES)
    assert dict(zip(CLUES, clues, strict=True)) == {
        "score": 1.2,
        "gain of a word": pytest.approx(2.0),
        "least content word": -0.9,
        "kinds said": 0.6,
    }
    assert clues_of(SAID, 12.0, [], {})[3] == 0


def test_confidence_is_a_probability_whatever_the_weights() -> None:
    assert confidence([1, 2, 3, 4], [0, 0, 0, 0, 0]) == 0.5
    assert confidence([1, 0, 0, 0], [1, 0, 0, 0, 0]) == pytest.approx(0.731, abs=1e-3)
    assert confidence([1000] * 4, [1000] * 5) == pytest.approx(1)
    assert confidence([1000] * 4, [-1000] * 5) == pytest.approx(0)
