"""The whole round, in a browser: texts of three kinds, correct, teach on the page, kill, use, accept, restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from photo_files import crop
from serving import Served

from capcli.outputs.metadata import Metadata, read_caption
from capcli.results import Candidate, Caption

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Page

BESIDE, INSIDE = "a text of mine beside it", "a text of mine inside"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photos without a text, one with a sidecar, one with metadata."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        crop("chelsea", number).save(folder / f"{number}.jpg")
    (folder / "6.txt").write_text(f"{BESIDE}\n")
    words = tuple(INSIDE.split())
    Metadata("overwrite").write(Caption(str(folder / "7.jpg"), (Candidate(INSIDE, words, (), -1.0, 0.0),)))
    return folder


def enter(page: Page, server: Served) -> None:
    page.goto(server.open)
    page.locator("#stage").wait_for()
    page.get_by_text("8 photos").wait_for()


def shown(page: Page) -> str:
    return (page.locator("#place").text_content() or "").split(": ")[1]


def test_what_is_corrected_is_learnt(
    page: Page, folder: Path, monkeypatch: pytest.MonkeyPatch, complaints: list[str]
) -> None:
    command = ["capcli", "serve", str(folder), "--port", "0", "--sidecar", "--write-metadata"]
    with Served(command, monkeypatch) as server:
        enter(page, server)
        corrected = {}
        for number in range(5):
            name, text = shown(page), f"our zorble {'looks at us' if number % 2 else 'is lying on the couch'}"
            corrected[name] = text
            page.keyboard.press("e")
            page.keyboard.insert_text(text)
            page.keyboard.press("Enter")
            page.get_by_text(f"Saved: {text}").first.wait_for()
        (left,) = {f"{number}.jpg" for number in range(6)} - corrected.keys()
        page.get_by_text("Teach", exact=True).first.click()
        page.locator("#teach").click()
        page.locator("#cancel").wait_for()
        assert complaints == []
        page.goto("about:blank")  # it would go on asking a server that is gone
        server.process.kill()
    with Served(command, monkeypatch) as server:
        enter(page, server)
        page.get_by_text("Teach", exact=True).first.click()
        page.locator("#use").wait_for()  # the teaching has gone on meanwhile
        page.locator("#use").click()
        page.locator("#model", has_text="Model: corrections-model").wait_for()
        page.locator("#state", has_text="photos that you captioned").wait_for()
        page.locator("#filter").select_option("alone")
        assert page.locator("#place").text_content() == f"1 of 1: {left}"
        said = page.locator("#field").input_value()
        assert "zorble" in said
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("a")
        page.locator("#meant li").wait_for()
        page.keyboard.press("Enter")
        page.get_by_text("8 photos, 6 saved").wait_for()
        page.goto("about:blank")
    with Served(command, monkeypatch) as server:
        enter(page, server)
        page.locator("#model", has_text="Model: corrections-model").wait_for()
        page.get_by_text("8 photos, 6 saved").wait_for()
        assert shown(page) in ("6.jpg", "7.jpg")  # the first ones without a save
        assert page.locator("#field").input_value() in (BESIDE, INSIDE)
        assert complaints == []
        page.goto("about:blank")
    for name, text in (corrected | {left: said}).items():
        assert (folder / name).with_suffix(".txt").read_text() == f"{text}\n"
        assert read_caption(str(folder / name)) == text
    assert (folder / "6.txt").read_text() == f"{BESIDE}\n"
    assert (read_caption(str(folder / "6.jpg")), read_caption(str(folder / "7.jpg"))) == ("", INSIDE)
    rows = {row["file_path"]: row for row in json.loads((folder / "corrections.json").read_text())}
    assert {name: row["captions"] for name, row in rows.items()} == {
        name: [text] for name, text in (corrected | {left: said}).items()
    }
