"""The grid of a folder's photos: what is drawn; opening, selecting and accepting, by mouse and by keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from folders import make_photos
from serving import Running, serving_folder

from capcli.captioner import Captioner
from capcli.outputs.sidecars import Sidecars
from capcli.serve.album import Album

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

ACTIVE = "document.getElementById(grid.getAttribute('aria-activedescendant')).title"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", 8)
    return tmp_path / "photos"


@pytest.fixture
def served(tiny_captioner: Captioner, folder: Path) -> Iterator[tuple[Running, Album]]:
    with serving_folder(tiny_captioner, folder, lambda existing: [Sidecars(existing)]) as served:
        yield served


def enter(page: Page, server: Running, size: str = "medium") -> None:
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#stage").wait_for()
    page.locator("#view").select_option(size)
    page.locator("#grid").wait_for()


@pytest.fixture
def opened(page: Page, served: tuple[Running, Album]) -> Page:
    """The page with its grid."""
    enter(page, served[0])
    return page


def cells(page: Page) -> Locator:
    return page.locator("#grid [role=option]")


def names(page: Page) -> list[str]:
    return page.evaluate("list.map(photo => photo.name)")


def selected(page: Page) -> set[int]:
    """Which of the photos are selected, by their places."""
    return {i for i, cell in enumerate(cells(page).all()) if cell.get_attribute("aria-selected") == "true"}


def saved(folder: Path) -> set[str]:
    return {row["file_path"] for row in json.loads((folder / "corrections.json").read_text())}


def test_the_grid_shows_captions_and_states(opened: Page, served: tuple[Running, Album], complaints: list[str]) -> None:
    page, (_, album) = opened, served
    assert cells(page).count() == 8
    first, second = names(page)[:2]
    photos = {photo.name: photo for photo in album.photos}
    assert photos[first].candidates[0]["caption"] in (cells(page).first.text_content() or "")
    assert cells(page).first.locator(".state").text_content() == (
        "unsaved? unsure" if photos[first].unsure else "unsaved"
    )
    heights = []
    for size in ("small", "medium", "large"):
        page.locator("#view").select_option(size)
        assert page.locator("#stage").is_hidden()
        heights.append(cells(page).first.evaluate("cell => cell.offsetHeight"))
    assert heights == sorted(set(heights))
    page.locator("#view").select_option("one")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Enter")
    page.locator("#strip .accepted").wait_for()
    page.keyboard.press("e")
    page.keyboard.insert_text("a red boat")
    page.keyboard.press("Enter")
    page.locator("#strip .corrected").wait_for()
    page.keyboard.press("e")
    page.keyboard.insert_text("half a sent")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    states = [cell.locator(".state").text_content() or "" for cell in cells(page).all()[:3]]
    assert states == ["✓ accepted", "✎ corrected", "typed, not saved" + states[2].removeprefix("typed, not saved")]
    assert cells(page).nth(1).locator(".words").text_content() == "a red boat"
    assert cells(page).nth(2).locator(".words").text_content() == "half a sent"
    assert names(page)[:2] == [first, second]
    assert complaints == []


def test_a_photo_is_opened_and_back_leads_back(opened: Page) -> None:
    page, order = opened, names(opened)
    cells(page).nth(3).locator("img").click()
    page.locator("#stage").wait_for()
    assert page.locator("#place").text_content() == f"4 of 8: {order[3]}"
    assert page.evaluate("document.activeElement.id") == "stage"
    page.keyboard.press("n")
    page.go_back()
    page.locator("#grid").wait_for()
    assert page.evaluate(ACTIVE) == order[4]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.locator("#stage").wait_for()
    assert page.locator("#place").text_content() == f"2 of 8: {order[1]}"
    page.keyboard.press("g")
    page.reload()
    page.locator("#grid").wait_for()
    assert page.locator("#view").input_value() == "medium"


def test_photos_are_selected_by_mouse(opened: Page) -> None:
    page = opened
    cells(page).nth(1).locator(".tick").click()
    cells(page).nth(3).click(modifiers=["ControlOrMeta"])
    assert selected(page) == {1, 3}
    cells(page).nth(5).click(modifiers=["Shift"])
    assert selected(page) == {1, 3, 4, 5}
    cells(page).nth(4).click(modifiers=["Shift"])  # the range shrinks
    assert selected(page) == {1, 3, 4}
    cells(page).nth(1).locator(".tick").click()
    assert selected(page) == {3, 4}
    assert page.locator("#selection").text_content() == "2 of 8 selected"
    page.get_by_role("button", name="Select all").click()
    assert len(selected(page)) == 8
    page.locator("#search").fill("photo3")
    page.locator("#search").fill("")
    assert len(selected(page)) == 1  # what was not shown is not selected
    page.get_by_role("button", name="Select none").click()
    assert selected(page) == set()


def test_photos_are_selected_by_keyboard(opened: Page) -> None:
    page = opened
    columns = page.evaluate("measure().columns")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    assert selected(page) == {0}
    page.keyboard.press("ArrowDown")
    assert page.evaluate(ACTIVE) == names(page)[columns]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowLeft")
    assert selected(page) == {0, columns, columns + 1}
    page.keyboard.press("End")
    assert page.evaluate(ACTIVE) == names(page)[7]
    page.keyboard.press("Escape")
    assert selected(page) == set()
    page.keyboard.press("ControlOrMeta+a")
    assert len(selected(page)) == 8


def test_selected_ones_are_accepted(opened: Page, folder: Path) -> None:
    page, order = opened, names(opened)
    for place in (0, 2, 3):
        cells(page).nth(place).locator(".tick").click()
    page.get_by_role("button", name="Accept selected (3)").click()
    assert page.locator("#question").text_content() == "Accept the model's first caption of these 3 photos?"
    assert {image.get_attribute("alt") for image in page.locator("#meant img").all()} == {order[i] for i in (0, 2, 3)}
    page.keyboard.press("Enter")
    page.get_by_text("8 photos, 3 saved").wait_for()
    assert saved(folder) == {order[i] for i in (0, 2, 3)}
    assert page.evaluate("document.activeElement.id") == "grid"
    cells(page).nth(1).locator(".tick").click()
    page.keyboard.press("a")
    assert page.locator("#question").text_content() == (
        "Accept the model's first caption of this photo? The other 3 selected have a text already."
    )
    page.keyboard.press("Escape")
    page.locator("#undoGrid").click()
    page.get_by_text("8 photos, 0 saved").wait_for()
    assert saved(folder) == set()


def many(route: Route) -> None:
    """Answer with five thousand photos."""
    photo: dict[str, Any] = {"unsure": False, "confidence": 0.5, "before": None, "error": None, "content": "0"}
    photo |= {"text": None, "place": None, "saved": None, "said": None}
    candidate = {"caption": "a cat is sitting on a table", "score": -1.0, "log_prob": -9.0}
    photos = [photo | {"id": i, "name": f"{i}.jpg", "tag": f"r-{i}", "candidates": [candidate]} for i in range(5000)]
    known = {"all": 5000, "done": 5000, "listed": True, "complete": True}
    route.fulfill(json={"run": "r", "change": 1, "photos": photos if "since=0" in route.request.url else []} | known)


@pytest.mark.parametrize("width", [1280, 390])
def test_of_thousands_only_those_near_the_window_are_drawn(
    page: Page, served: tuple[Running, Album], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.route("**/page/photos?*", many)
    enter(page, served[0], "small")
    assert 0 < cells(page).count() < 300
    assert cells(page).first.get_attribute("aria-setsize") == "5000"
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("End")
    last = cells(page).last
    assert (last.get_attribute("title"), last.get_attribute("aria-posinset")) == ("4999.jpg", "5000")
    assert cells(page).count() < 300
    bottom = "element => element.getBoundingClientRect().bottom"
    assert last.evaluate(bottom) <= page.evaluate("bar.getBoundingClientRect().top")
    page.keyboard.press("ControlOrMeta+a")
    page.get_by_text("5000 of 5000 selected").wait_for()
    page.evaluate("scrollTo(0, 0)")
    page.locator("#cell0").wait_for()


LOOKS = [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}]


@pytest.mark.parametrize("looks", LOOKS)
def test_axe_finds_no_barrier(browser: Browser, served: tuple[Running, Album], looks: dict[str, Any]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(bypass_csp=True, **looks)
    context.set_default_timeout(1_800_000)
    page = context.new_page()
    enter(page, served[0])
    page.keyboard.press("Escape")
    cells(page).first.locator(".tick").click()
    page.keyboard.press("Shift+ArrowRight")
    found = axe.Axe().run(page).response["violations"]
    context.close()
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []


def test_narrow_windows_need_no_sideways_scrolling(opened: Page) -> None:
    opened.set_viewport_size({"width": 320, "height": 640})
    for size, text in (("small", "100%"), ("large", "200%")):
        opened.locator("#view").select_option(size)
        opened.evaluate(f"document.documentElement.style.fontSize = '{text}'")
        assert opened.evaluate("document.documentElement.scrollWidth") == 320
