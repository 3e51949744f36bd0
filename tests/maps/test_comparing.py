"""Captions by several checkpoints, on a page and on a contact sheet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fakes import GREY, candidate_of
from PIL import Image

from capcli.maps.comparing import COLUMNS, Look, comparison_page, comparison_sheet
from capcli.results import Caption

if TYPE_CHECKING:
    from playwright.sync_api import Page

WORDS = "a cat on a mat"


def look(model: str, words: str = WORDS, cells: int | None = None) -> Look:
    """A caption whose words all look at one cell of 4×4, or nowhere."""
    attention = None
    if cells is not None:
        attention = np.zeros((len(words.split()), 16))
        attention[:, cells] = 1
        attention = attention.reshape(-1, 4, 4)
    photo = Image.new("RGB", (320, 240), GREY)
    return Look(model, f"as {model} sees", Caption("a/photo.jpg", (candidate_of(attention, words),), photo=photo))


def test_the_page_has_every_word_with_its_probability() -> None:
    text = comparison_page([look("plain"), look("soft", cells=5), look("<b>", "no words of <i>")])
    assert text.count('<li class="card"') == 3
    assert text.count("<br><small>61%</small>") == 5 + 5 + 4
    assert text.count("data-heat=") - text.rsplit("<script>", 1)[1].count("data-heat=") == 5
    assert "<h2>&lt;b&gt;</h2>" in text
    assert "as soft sees" in text
    assert "<i>" not in text


@pytest.mark.slow
def test_a_word_is_drawn_on_the_photo_of_every_model_that_said_it(tmp_path: Path, page: Page, complaints: list) -> None:
    looks = [look("soft", cells=0), look("hard", "the cat", cells=15), look("plain"), look("other", "a dog", cells=3)]
    (tmp_path / "page.html").write_text(comparison_page(looks), "utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    page.get_by_role("button", name="cat").first.hover()
    having = page.locator(".card:has(canvas) h2")
    assert having.all_inner_texts() == ["soft", "hard"]
    assert page.locator(".status").all_inner_texts() == ["cat: 61%, looks at the top left", "", "", ""]
    strongest = """canvas => {
      const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
      const opacity = data.filter((_, i) => i % 4 === 3), at = opacity.indexOf(Math.max(...opacity));
      return [at % canvas.width < canvas.width / 2, at < opacity.length / 2];
    }"""
    assert [canvas.evaluate(strongest) for canvas in page.locator("canvas").all()] == [[True, True], [False, False]]
    page.keyboard.press("Escape")
    assert page.locator("canvas").count() == 0
    assert complaints == []


@pytest.mark.parametrize("size", [(320, 240), (60, 320), (320, 20)])
def test_the_sheet_shows_heat_where_there_is_any(size: tuple[int, int]) -> None:
    photo = Image.new("RGB", size, GREY)
    looks = [look("plain"), look("soft", WORDS * 5, cells=5)]
    looks = [replace(each, caption=replace(each.caption, photo=photo)) for each in looks]
    sheet, plain = comparison_sheet(looks), comparison_sheet(looks[:1])
    assert sheet.width > plain.width
    pixels = np.asarray(sheet)
    assert (pixels[-20:] == 255).all()  # the margin is free
    assert (pixels[:, -20:] == 255).all()
    coloured = (np.ptp(pixels.astype(int), axis=2) > 40).any(0)
    assert np.flatnonzero(np.diff(coloured.astype(int)) == 1).size == COLUMNS
    assert not (np.ptp(np.asarray(plain).astype(int), axis=2) > 40).any()
