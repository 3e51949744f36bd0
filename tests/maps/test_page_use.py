"""The report as it is used: by keyboard, filtered, enlarged, printed, in a chosen theme, on a phone."""

from __future__ import annotations

import io
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from reports import make_caption, write_report

from capcli.maps.shown import as_webp
from capcli.results import ImageError

if TYPE_CHECKING:
    from playwright.sync_api import Page

FOCUSED = "document.activeElement.textContent"
SEATS = ("one", "two", "three", "four", "five", "six", "seven")


@pytest.fixture
def report(tmp_path: Path, page: Page) -> Page:
    """A page of seven pictures, three in a row, with two captions each, one unsure, and two that could not be read."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), "uint8")
    Image.fromarray(noise).save(tmp_path / "photo.png")
    captions = [make_caption(tmp_path / "photo.png", f"{seat} is red") for seat in SEATS]
    captions[4] = replace(captions[4], unsure=True)
    failures = [ImageError("bad.jpg", "the file is empty"), ImageError("worse.jpg", "the file is empty")]
    write_report(tmp_path / "r.html", [*captions, *failures], num=2)
    page.goto((tmp_path / "r.html").as_uri())
    return page


def shown(page: Page) -> list[str]:
    return [text.split()[0] for text in page.locator(".card:not([hidden]) .best .caption").all_text_contents()]


def test_a_photo_takes_little_whatever_is_on_it() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (420, 560, 3), "uint8"))
    small, large = as_webp(noise, 14_000), as_webp(Image.linear_gradient("L").resize((560, 420)).convert("RGB"), 14_000)
    assert max(len(small), len(large)) <= 14_000
    assert Image.open(io.BytesIO(small)).size < Image.open(io.BytesIO(large)).size == (560, 420)


def test_a_card_takes_25_kb_at_most(report: Page) -> None:
    sizes = report.eval_on_selector_all(".card", "cards => cards.map(card => card.outerHTML.length)")
    assert max(sizes) <= 25_000
    content = b64decode(report.locator("img").first.get_attribute("src").partition(",")[2])  # type: ignore[union-attr]
    assert Image.open(io.BytesIO(content)).format == "WEBP"


def test_a_caption_is_one_tab_stop(report: Page) -> None:
    report.get_by_label("Theme").focus()
    for seat in SEATS[:3]:
        for _ in range(2):
            report.keyboard.press("Tab")
            assert report.evaluate(FOCUSED) == seat
    report.keyboard.press("ArrowRight")
    assert report.evaluate(FOCUSED) == "is"
    report.keyboard.press("Tab")
    report.keyboard.press("Shift+Tab")
    assert report.evaluate(FOCUSED) == "is"  # where one was


def test_down_goes_down(report: Page) -> None:
    columns = report.evaluate(
        "[...document.querySelectorAll('.card')].filter(c => c.offsetTop === cards[0].offsetTop).length"
    )
    assert columns == 3
    report.locator(".card").nth(1).locator(".w").nth(1).focus()
    visited = []
    for key in ["ArrowDown"] * 5 + ["ArrowUp"] * 2:
        report.keyboard.press(key)
        visited.append(report.evaluate("document.activeElement.closest('.card').querySelector('.w').textContent"))
    # Both captions of a card; below the fifth there is only the last one, to its left.
    assert visited == ["two", "five", "five", "seven", "seven", "seven", "four"]


def test_unsure_and_failed_ones_can_be_found(report: Page) -> None:
    assert report.locator("#filter option").all_text_contents() == ["all", "unsure (1)", "failed (2)"]
    report.locator("#filter").select_option("unsure")
    assert shown(report) == ["five"]
    assert report.locator("#count").text_content() == "1 of 7 pictures, 2 failed (listed at the end)"
    report.locator("#search").fill("two")
    assert report.locator("#nothing").is_visible()
    report.locator("#filter").select_option("failed")
    assert shown(report) == []
    assert report.locator("#nothing").is_hidden()
    assert report.locator("#failures").is_visible()


def test_without_such_pictures_there_is_nothing_to_choose(tmp_path: Path, page: Page) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    write_report(tmp_path / "r.html", [make_caption(tmp_path / "photo.png", "a cat")])
    page.goto((tmp_path / "r.html").as_uri())
    assert page.locator("#filter").is_hidden()
    assert page.locator(".score").count() == 0  # a score alone says nothing


def test_scores_stand_by_all_of_several_captions(report: Page) -> None:
    assert report.locator(".card").first.locator(".score").all_text_contents() == ["-0.50", "-0.90"]


def test_a_click_or_z_enlarges_and_escape_closes(report: Page, complaints: list[str]) -> None:
    card = report.locator(".card").nth(1)
    small = card.locator("img").bounding_box()
    card.locator("img").click()
    large = card.locator("img").bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 2 * small["width"]
    card.locator(".w").nth(1).hover()
    assert card.locator("canvas").bounding_box() == card.locator("img").bounding_box()  # the heat is as large
    report.keyboard.press("Escape")
    report.locator("[popover]").wait_for(state="detached")
    assert card.locator("img").bounding_box() == small
    card.locator(".w").nth(1).focus()
    report.keyboard.press("z")
    assert card.evaluate("card => card.matches(':popover-open')")
    report.keyboard.press("z")
    report.locator("[popover]").wait_for(state="detached")
    assert report.evaluate(FOCUSED) == "is"
    assert complaints == []


def test_print_is_whole_cards_black_on_white(report: Page) -> None:
    report.emulate_media(media="print", color_scheme="dark")
    assert report.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert report.locator(".caption").first.evaluate("e => getComputedStyle(e).color") == "rgb(0, 0, 0)"
    assert report.locator(".card").first.evaluate("e => getComputedStyle(e).breakInside") == "avoid"
    assert report.locator(".card").last.evaluate("e => getComputedStyle(e).contentVisibility") == "visible"
    for hidden in ("#search", "#filter", "#scale", ".hint"):
        assert report.locator(hidden).is_hidden()


def test_a_chosen_theme_stays(report: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = report.evaluate(background)
    report.get_by_label("Theme").select_option("dark")
    dark = report.evaluate(background)
    assert dark != light
    report.reload()
    assert report.evaluate(background) == dark
    report.get_by_label("Theme").select_option("system")
    assert report.evaluate(background) == light


def test_the_search_stays_at_the_top_on_phones(report: Page) -> None:
    report.set_viewport_size({"width": 390, "height": 780})
    report.evaluate("scrollTo(0, 1500)")
    box = report.locator("#search").bounding_box()
    header = report.locator("header").bounding_box()
    assert box is not None
    assert header is not None
    assert box["y"] >= 0
    assert header["height"] < 780 / 6
    assert report.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("looks", [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}])
def test_axe_finds_no_barrier(report: Page, looks: dict[str, str]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    report.emulate_media(**looks)  # type: ignore[arg-type]
    report.locator(".card img").first.click()
    for _ in range(2):  # with a card enlarged, and without
        found = axe.Axe().run(report).response["violations"]
        assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []
        report.keyboard.press("Escape")
