"""Explanations as lines, tables and rows."""

import math
from dataclasses import replace

import pytest
from fakes import PHOTOS

from capcli.captioner import Captioner
from capcli.explaining.doubting import Noun
from capcli.explaining.printing import as_row, as_table, factor
from capcli.explaining.reading import explain

PHOTO = str(PHOTOS / "chelsea.jpg")


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
