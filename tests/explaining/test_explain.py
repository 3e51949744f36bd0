import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PHOTOS

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine
from capcli.explaining.printing import as_line, as_row, as_table, factor
from capcli.explaining.reading import explain, ranked
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
        assert e.doubted == tuple(gain < math.log(0.5) for gain in e.gains)
        marked = [line.startswith("?") for line in as_table(e)][1:-1]
        assert marked == list(e.doubted)
    assert [e.gain for e in ranked(results)] == sorted((e.gain for e in results), reverse=True)


def test_rows_hold_what_attention_json_holds_and_more(captioner: Captioner) -> None:
    (found,) = explain(captioner, PHOTO, ["a cat"])
    row = as_row(found)
    assert set(row) == {"path", "caption", "grid", "words", "log_prob", "score", "gain", "end_log_prob"}
    assert row["grid"] == [2, 2]
    assert row["path"] == PHOTO
    total = sum(word["log_prob"] for word in row["words"]) + row["end_log_prob"]
    assert total == pytest.approx(row["log_prob"], abs=1e-3)
    assert set(row["words"][0]) == {
        "word", "log_prob", "gate", "weights", "gain", "doubted", "unknown", "favourite"
    }  # fmt: skip


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
    doubted = replace(found, gains=(-2.0,) * 5, favourites=("a", "dog", "on", "man", end))
    notes = ["rather" in line for line in list(as_table(doubted))[1:-1]]
    assert notes == [False, True, False, True, False]
