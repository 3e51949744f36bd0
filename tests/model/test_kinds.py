"""What the encoder tells apart by itself, and what people call it."""

import numpy as np
import pytest

from capcli.model.kinds import MOST, Kinds, Named, read_names

BEAR, CAT = Named("polar bear", ("bear",), (0, 2)), Named("cat", ("kitten",), (1,))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("a polar bear swims", True),
        ("two polar bears", True),
        ("a brown bear", True),
        ("bears", True),
        ("a polar cap", False),
        ("a beard", False),
        ("", False),
    ],
)
def test_a_kind_is_said_by_its_name_or_a_broader_one(words: str, said: bool) -> None:
    assert BEAR.is_said(words.split()) is said


def test_classes_add_up_to_kinds_and_the_likeliest_are_told() -> None:
    bias = np.log(np.array([0.3, 0.25, 0.2, 0.25], np.float32))
    head = Kinds((BEAR, CAT), np.zeros((4, 3), np.float32), bias)
    probabilities = head.probabilities(np.ones((2, 3), np.float32))
    np.testing.assert_allclose(probabilities, [[0.5, 0.25]] * 2, atol=1e-6)
    told = head.told(np.ones((1, 3), np.float32))[0]
    assert [kind.name for kind in told] == ["polar bear", "cat"]
    assert told[0].probability == pytest.approx(0.5)


def test_few_kinds_are_told_and_no_improbable_ones() -> None:
    names = tuple(Named(f"kind {number}", (), (number,)) for number in range(9))
    even = Kinds(names, np.zeros((9, 1), np.float32), np.zeros(9, np.float32))
    assert len(even.told(np.ones((1, 1), np.float32))[0]) == MOST
    sure = Kinds(names, np.zeros((9, 1), np.float32), np.array([20.0] + [0.0] * 8, np.float32))
    assert [kind.name for kind in sure.told(np.ones((1, 1), np.float32))[0]] == ["kind 0"]


def test_names_are_read_from_lines() -> None:
    lines = ["# a comment", "", "polar bear < bear: 0 2", "cat<kitten, kitty :5-7 9"]
    assert read_names(lines) == (BEAR, Named("cat", ("kitten", "kitty"), (5, 6, 7, 9)))
    with pytest.raises(ValueError, match="is not NAME"):
        read_names(["polar bear"])
