"""Saves on the page of a folder: what a reload, another tab and a way back leave of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from folders import make_photos
from serving import Running, serving_folder

from capcli.captioner import Captioner
from capcli.outputs.sidecars import Sidecars
from capcli.serve.album import Album

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", 4)
    return tmp_path / "photos"


@pytest.fixture
def served(tiny_captioner: Captioner, folder: Path) -> Iterator[tuple[Running, Album]]:
    with serving_folder(tiny_captioner, folder, lambda existing: [Sidecars(existing)]) as served:
        yield served


@pytest.fixture
def opened(page: Page, served: tuple[Running, Album]) -> Page:
    server, _ = served
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#stage").wait_for()
    return page


def captions(folder: Path) -> list[str]:
    return [row["captions"][0] for row in json.loads((folder / "corrections.json").read_text())]


def shown(page: Page) -> str:
    """The photo that is worked on."""
    return (page.locator("#place").text_content() or "").split(": ")[1]


def write(page: Page, text: str) -> None:
    """Save a text for the photo that is shown."""
    page.keyboard.press("e")
    page.keyboard.insert_text(text)
    page.keyboard.press("Enter")
    page.get_by_text(f"Saved: {text}").first.wait_for()


def load(page: Page) -> None:
    page.reload()
    page.locator("#stage").wait_for()


def test_a_reload_loses_nothing(opened: Page, folder: Path) -> None:
    page, first = opened, shown(opened)
    page.keyboard.press("e")
    page.keyboard.insert_text("half a sent")
    load(page)
    assert page.locator("#field").input_value() == "half a sent"
    write(page, "one")
    load(page)
    assert shown(page) != first  # the first unsaved one
    for _ in range(3):
        page.keyboard.press("n")
    assert shown(page) == first
    assert page.locator("#mark").text_content() == "Saved: one"
    page.keyboard.press("u")
    page.get_by_text(f"Undone: {first}").wait_for()
    assert captions(folder) == []
    load(page)
    page.keyboard.press("r")
    page.get_by_text(f"Done again: {first}").wait_for()
    assert captions(folder) == ["one"]
    assert (folder / first).with_suffix(".txt").read_text() == "one\n"


def test_a_save_moves_no_photo(opened: Page) -> None:
    page, first = opened, shown(opened)
    write(page, "one")
    assert (page.locator("#place").text_content() or "").startswith("2 of 4")
    page.keyboard.press("p")
    assert shown(page) == first


def test_a_save_of_another_day_is_removed(page: Page, tiny_captioner: Captioner, folder: Path) -> None:
    for run in range(2):
        with serving_folder(tiny_captioner, folder, lambda existing: [Sidecars(existing)]) as (server, _):
            page.goto(f"{server.address}/?token={server.access.once}")
            page.locator("#stage").wait_for()
            if run == 0:
                first = shown(page)
                write(page, "one")
            else:
                page.locator("#strip button").last.click()
                assert shown(page) == first
                assert page.locator("#undo").is_disabled()
                page.locator("#remove").click()
                page.get_by_text("Removed: one").wait_for()
                assert (captions(folder), list(folder.glob("*.txt"))) == ([], [])
                assert page.locator("#remove").is_hidden()
            page.goto("about:blank")


def test_a_draft_keeps_the_version_that_it_began_with(opened: Page, served: tuple[Running, Album]) -> None:
    """The page hears of the other save before its own: it must not take that for what the person has seen."""
    server, album = served
    page, first = opened, shown(opened)
    page.locator("#field").fill("mine")
    (photo,) = [photo for photo in album.photos if photo.name == first]
    headers = server.cookie | {"If-Match": album.tag(photo)}
    assert server.ask(f"/page/photos/{photo.number}", '{"caption": "theirs"}', headers, "PUT").status == 200
    page.locator("#mark", has_text="Saved: theirs").wait_for()
    page.locator("#field").press("Enter")
    page.get_by_text("“theirs” was saved elsewhere meanwhile").wait_for()
    assert (album.photos[photo.number].saved, page.locator("#field").input_value()) == ("theirs", "mine")
    page.locator("#field").press("Enter")
    page.get_by_text("Saved: mine").first.wait_for()
    assert album.photos[photo.number].saved == "mine"


def test_acceptance_shows_whom_it_means(opened: Page, served: tuple[Running, Album]) -> None:
    page, album = opened, served[1]
    first = shown(page)
    write(page, "one")
    page.locator("#field").fill("a draft")
    drafted = shown(page)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("a")
    assert page.locator("#question").text_content() == "Accept the model's first caption of these 2 photos?"
    meant = {image.get_attribute("alt") for image in page.locator("#meant img").all()}
    assert meant == {photo.name for photo in album.photos} - {first, drafted}
    page.keyboard.press("Enter")
    page.get_by_text("4 photos, 3 saved").wait_for()
    assert {photo.name for photo in album.photos if photo.saved is None} == {drafted}
    assert page.evaluate("document.activeElement.id") == "stage"


def test_corrected_stays_corrected_when_a_model_has_learnt_it(
    page: Page, tiny_captioner: Captioner, folder: Path
) -> None:
    best = tiny_captioner.caption(str(folder / "photo1.jpg")).text
    rows = [{"file_path": "photo1.jpg", "captions": [best], "said": "what it said then"}]
    (folder / "corrections.json").write_text(json.dumps(rows))
    with serving_folder(tiny_captioner, folder) as (server, _):
        page.goto(f"{server.address}/?token={server.access.once}")
        page.locator("#stage").wait_for()
        assert shown(page) != "photo1.jpg"
        assert page.locator("#strip button").last.get_attribute("title") == "photo1.jpg"  # saved ones come last
        page.locator("#filter").select_option("corrected")
        assert shown(page) == "photo1.jpg"


def test_texts_that_are_there_are_shown_and_filtered(
    page: Page, tiny_captioner: Captioner, folder: Path, complaints: list[str]
) -> None:
    (folder / "photo0.txt").write_text("a text of mine\n")
    with serving_folder(tiny_captioner, folder, lambda existing: [Sidecars(existing)]) as (server, album):
        page.goto(f"{server.address}/?token={server.access.once}")
        page.locator("#stage").wait_for()
        assert page.locator("#strip button").last.get_attribute("title") == "photo0.jpg"
        assert page.locator("#accept").text_content() == "Accept shown (3)"  # not in the place of a person's text
        page.locator("#filter").select_option("alone")
        assert (page.locator("#place").text_content() or "").startswith("1 of 3: ")
        for kind in ("text", "differs"):
            page.locator("#filter").select_option(kind)
            assert page.locator("#place").text_content() == "1 of 1: photo0.jpg"
        assert page.locator("#mark").text_content() == "In photo0.txt: a text of mine"
        assert page.locator("#field").input_value() == "a text of mine"
        best = album.photos[0].candidates[0]["caption"]
        assert best in (page.locator("#candidates").text_content() or "")
        page.locator("#field").fill("a better text")
        page.locator("#field").press("Enter")
        page.get_by_text("Saved: a better text").first.wait_for()
        assert page.locator("#problem").text_content() == ""
        assert (folder / "photo0.txt").read_text() == "a better text\n"
        page.locator("#remove").click()
        page.get_by_text("Removed: a better text").wait_for()
        assert page.locator("#field").input_value() == "a text of mine"
    assert (folder / "photo0.txt").read_text() == "a text of mine\n"
    assert complaints == []
