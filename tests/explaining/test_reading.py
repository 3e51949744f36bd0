import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import PHOTOS

from capcli.captioner import Captioner
from capcli.explaining.printing import as_line, as_row, as_table
from capcli.explaining.reading import explain, ranked
from capcli.results import ImageError

PHOTO = str(PHOTOS / "chelsea.jpg")


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


def test_sentences_without_words_and_unreadable_photos_say_why(captioner: Captioner, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'\?!' has no word"):
        explain(captioner, PHOTO, ["a cat", "?!"])
    with pytest.raises(ImageError, match="no such file"):
        explain(captioner, str(tmp_path / "absent.jpg"), ["a cat"])


def test_length_does_not_decide_on_the_first_place(captioner: Captioner) -> None:
    short, long = explain(captioner, PHOTO, ["a cat", "a dog on a man on grass"])
    short = replace(short, gains=(0.0, 4.5, 0.0), agreement=0.7)
    long = replace(long, gains=(0.5, 1.5, 1.0, 0.5, 1.0, 0.5, 0.5, 0.0), agreement=0.0)
    assert long.gain > short.gain
    assert ranked([long, short]) == [short, long]
    assert short.fit == pytest.approx(4.5 / 3 + 2 * 0.7)
    assert replace(short, agreement=None).fit == pytest.approx(1.5)
