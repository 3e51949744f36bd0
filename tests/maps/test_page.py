from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image
from reports import make_caption, write_report

from capcli.maps.overlay import OverlayOptions
from capcli.maps.page import HtmlReport
from capcli.maps.shown import pack, where
from capcli.results import Caption, ImageError, Kind

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

NASTY = '<script>alert("&\'")</script>'


def without_attention(caption: Caption, **changes: str) -> Caption:
    """That caption of a decoder without attention, with nothing but its best sentence."""
    return replace(caption, candidates=(replace(caption.best, attention_map=None, **changes),))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").resize((400, 300)).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_everything_is_escaped_and_nothing_lies_outside(tmp_path: Path, photo: Path) -> None:
    odd = tmp_path / f"{NASTY.replace('/', '⁄')}\udcff.png"
    odd.write_bytes(photo.read_bytes())
    caption = make_caption(odd, f"a {NASTY} cat 's")
    text = write_report(tmp_path / "r.html", [caption, ImageError(f"{NASTY}.jpg", "no picture\udcff")], num=2)
    assert "<script>alert" not in text
    assert escape(NASTY) in text
    assert "cat</button><button" in text  # 's joins its word
    for address in re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'> ]*)""", text):
        assert address.startswith("data:image/webp;base64,")
    assert not re.search(r"url\(|fetch\(|import[ (]|XMLHttpRequest|https?:", text)
    assert f'alt="{escape(caption.text)}"' in text
    assert 'width="400" height="300" loading="lazy"' in text
    assert list(tmp_path.glob(".*")) == []


def test_what_was_written_survives_an_error(tmp_path: Path, photo: Path) -> None:
    report = HtmlReport(tmp_path / "r.html", OverlayOptions())
    report.write(make_caption(photo, "a cat"))
    with pytest.raises(ImageError):
        report.write(make_caption(tmp_path / "gone.png", "a dog"))
    report.close()
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "gone.png: no such file or directory" in text
    assert text.count('<li class="card"') == 1
    assert "1 picture, " in text
    assert text.endswith("</html>\n")


def test_pictures_wait_on_the_disk_and_not_in_memory(tmp_path: Path, photo: Path) -> None:
    report = HtmlReport(tmp_path / "r.html", OverlayOptions())
    for _ in range(20):
        report.write(make_caption(photo, "a cat"))
    (begun,) = tmp_path.glob(".capcli-*")
    assert begun.read_text("utf-8").count('<li class="card"') > 10  # the last few are in the buffer of the file
    report.close()


def test_without_a_row_there_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("mine")
    HtmlReport(tmp_path / "r.html", OverlayOptions()).close()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("r.html", "mine")]


def test_sentences_without_other_candidates_can_be_searched(tmp_path: Path, photo: Path) -> None:
    caption = make_caption(photo, "a cat sleeps")
    text = write_report(tmp_path / "r.html", [replace(caption, candidates=caption.candidates[:1])], num=2)
    assert 'photo.png a cat sleeps"' in text


def test_keywords_are_shown_and_can_be_searched(tmp_path: Path, photo: Path) -> None:
    caption = replace(make_caption(photo, "a cat sleeps"), keywords=("cat", "R&D"))
    text = write_report(tmp_path / "r.html", [caption])
    assert '<p class="keywords">Keywords: cat, R&amp;D</p>' in text
    assert 'cat R&amp;D"' in text
    assert "Keywords:" not in write_report(tmp_path / "without.html", [replace(caption, keywords=())])


def test_confidence_and_kinds_are_shown_and_sort_the_page(tmp_path: Path, photo: Path) -> None:
    caption = replace(make_caption(photo, "a cat"), confidence=0.43, unsure=True, kinds=(Kind("polar bear", 0.825),))
    text = write_report(tmp_path / "r.html", [caption])
    assert '<p class="unsure">Confidence: 43% (unsure)</p>' in text
    assert '<p class="keywords">Kinds: polar bear 82%</p>' in text
    assert 'data-sure="00.4300"' in text
    assert 'id="least"' in text
    assert "Confidence:" not in write_report(tmp_path / "without.html", [make_caption(photo, "a cat")])


def test_a_picture_without_a_caption_is_named_after_its_file(tmp_path: Path, photo: Path) -> None:
    caption = make_caption(photo, "a cat")
    text = write_report(tmp_path / "r.html", [without_attention(caption, text="")])
    assert f'alt="{tmp_path.name}/photo.png"' in text


def test_captions_without_attention_are_plain(tmp_path: Path, photo: Path) -> None:
    caption = make_caption(photo, "a cat")
    text = write_report(tmp_path / "r.html", [without_attention(caption)])
    assert '<p class="caption">a cat</p>' in text
    assert "data-heat=" not in text.split("<script>")[0]


def test_a_text_in_other_words_stands_above_the_words(tmp_path: Path, photo: Path) -> None:
    caption = make_caption(photo, "a cat 's")
    for text, shown in (("A cat's.", False), ("a kitten's", True)):
        page = write_report(tmp_path / "r.html", [replace(caption, candidates=(replace(caption.best, text=text),))])
        assert (f'<p class="caption">{escape(text)}</p>' in page) == shown
        assert ("in the model’s own words" in page) == shown
        assert ">cat</button>" in page
        (tmp_path / "r.html").unlink()


def test_weights_take_a_byte_each() -> None:
    assert pack(np.array([[0.0, 1.0], [0.5, 0.2]])) == "AP+AMw=="
    heat = np.zeros((7, 7))
    heat[0, 6] = 1
    assert where(heat, 0.35) == "top right"
    assert where(np.outer(np.eye(3)[1], np.eye(3)[1]), 0) == "centre"


CANVAS = "document.querySelector('canvas')?.toDataURL() ?? null"
ON = "document.querySelector('.w.on')?.textContent ?? null"


def word(page: Page, card: int, index: int) -> Locator:
    return page.locator(".card").nth(card).locator(".w").nth(index)


def test_in_a_browser(tmp_path: Path, photo: Path, page: Page, complaints: list[str], requests: list[str]) -> None:
    captions = [make_caption(photo, f"a cat on seat{i}", i) for i in range(60)]
    write_report(tmp_path / "r.html", [*captions, ImageError("bad.jpg", "the file is empty")], num=2)
    page.goto((tmp_path / "r.html").as_uri())
    assert page.locator("#count").text_content() == "60 pictures, 1 failed (listed at the end)"
    assert page.locator("#failures li").all_text_contents() == ["bad.jpg: the file is empty"]
    assert page.evaluate("document.querySelector('.card img').decode().then(() => true)")
    assert page.evaluate(CANVAS) is None

    word(page, 0, 1).hover()
    first = page.evaluate(CANVAS)
    assert page.evaluate(ON) == "cat"
    assert "cat: 50%, looks at the " in page.locator(".status").first.text_content()
    word(page, 0, 2).hover()
    second = page.evaluate(CANVAS)
    assert first != second
    assert None not in (first, second)
    word(page, 40, 1).hover()  # far down, not yet laid out
    assert page.evaluate("document.querySelector('canvas').closest('.card').dataset.search").endswith("seat40")
    page.locator("h1").hover()
    assert page.evaluate(CANVAS) is None

    # the strongest cell is where the overlay is most opaque
    at = captions[0].attention[1].flatten().argmax().item()
    word(page, 0, 1).hover()
    x, y = page.locator("canvas").evaluate(
        "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let best = 0;"
        " for (let i = 3; i < d.length; i += 4) if (d[i] > d[best * 4 + 3]) best = i >> 2;"
        " return [best % c.width / c.width, Math.floor(best / c.width) / c.height] }"
    )
    assert (int(y * 7), int(x * 7)) == divmod(at, 7)

    page.evaluate("document.activeElement.blur(), document.getElementById('search').focus()")
    for _ in range(4):  # over the scale, the order and the theme
        page.keyboard.press("Tab")
    assert page.evaluate(ON) == "a"
    by_keyboard = page.evaluate(CANVAS)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(ON) == "cat"
    assert page.evaluate(CANVAS) == first
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(CANVAS) == by_keyboard
    page.keyboard.press("Escape")
    assert page.evaluate(CANVAS) is None

    word(page, 0, 1).evaluate("word => word.click()")  # as a tap does
    page.evaluate("document.getElementById('scale').click()")
    assert page.evaluate(CANVAS) not in (first, None)

    page.locator("h1").hover()  # or the search might bring a word under the mouse
    word(page, 0, 1).evaluate("word => word.click()")
    page.keyboard.press("/")
    page.keyboard.insert_text("SEAT7 cat")
    assert page.locator(".card:not([hidden])").count() == 1
    assert page.locator("#count").text_content().startswith("1 of 60 pictures")
    assert page.evaluate(CANVAS) is None

    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light

    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    names = {(n.get("role", {}).get("value"), n.get("name", {}).get("value")) for n in nodes}
    assert ("image", "a cat on seat7") in names
    assert ("button", "cat") in names
    assert ("searchbox", "Search") in names

    assert complaints == []
    assert requests == [(tmp_path / "r.html").as_uri()]


def test_two_thousand_pictures_stay_usable(tmp_path: Path, photo: Path, page: Page, complaints: list[str]) -> None:
    Image.new("RGB", (40, 30)).save(photo)
    caption = make_caption(photo, "a cat on the red seat near two big dogs")
    write_report(tmp_path / "r.html", [caption] * 2000)
    page.goto((tmp_path / "r.html").as_uri())
    assert page.locator("#count").text_content() == "2000 pictures"
    assert "2000 pictures, " in page.locator("footer").text_content()
    word(page, 1999, 1).hover()
    assert page.evaluate(CANVAS) is not None
    # what is far away is not rendered
    rendered = "[...document.images].filter(i => i.checkVisibility({contentVisibilityAuto: true})).length"
    assert 0 < page.evaluate(rendered) < 100
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(tmp_path: Path, photo: Path, page: Page, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    captions = [make_caption(photo, "a cat on the seat"), without_attention(make_caption(photo, "a dog"))]
    write_report(tmp_path / "r.html", [*captions, ImageError("bad.jpg", "the file is empty")], num=2)
    page.emulate_media(color_scheme=scheme)
    page.goto((tmp_path / "r.html").as_uri())
    word(page, 0, 1).focus()
    found = axe.Axe().run(page).response["violations"]
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []


def test_arrow_keys_lead_to_words_and_pictures(tmp_path: Path, photo: Path, page: Page) -> None:
    captions = [make_caption(photo, f"{seat} is red") for seat in ("one", "two", "three")]
    write_report(tmp_path / "r.html", captions, num=2)
    page.set_viewport_size({"width": 390, "height": 780})  # one below the other
    page.goto((tmp_path / "r.html").as_uri())
    focused = "document.activeElement.textContent"
    word(page, 0, 4).focus()  # in the other caption
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "two"
    for _ in range(4):  # there is no fourth
        page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == "three"
    page.evaluate("document.querySelectorAll('.card')[1].hidden = true")  # as a search does
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == "one"

    # With Ctrl, Alt or the command key they are the browser's.
    for key in ("ArrowLeft", "ArrowDown", "/"):
        for modifier in ("ctrlKey", "altKey", "metaKey"):
            event = f"new KeyboardEvent('keydown', {{key: '{key}', {modifier}: true, bubbles: true, cancelable: true}})"
            assert page.evaluate(f"document.activeElement.dispatchEvent({event})"), (key, modifier)
    assert page.evaluate(focused) == "one"


@pytest.mark.parametrize("text_size", ["100%", "200%"])
def test_narrow_windows_and_large_text_need_no_sideways_scrolling(
    tmp_path: Path, photo: Path, page: Page, text_size: str
) -> None:
    write_report(tmp_path / "r.html", [make_caption(photo, "a cat on the seat")], num=2)
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto((tmp_path / "r.html").as_uri())
    page.evaluate(f"document.documentElement.style.fontSize = '{text_size}'")
    assert page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("height", [260, 900])
def test_the_word_in_focus_is_in_sight(tmp_path: Path, photo: Path, page: Page, height: int) -> None:
    write_report(tmp_path / "r.html", [make_caption(photo, "a cat on the seat")] * 8)
    page.set_viewport_size({"width": 1280, "height": height})
    page.goto((tmp_path / "r.html").as_uri())
    page.locator("#search").focus()
    places = "[document.querySelector('header'), document.activeElement].map(e => e.getBoundingClientRect())"
    for key in (
        ["Tab"] * 4 + ["ArrowRight"] * 3 + ["ArrowDown", "Tab", "ArrowUp", "ArrowDown", "Shift+Tab"] + ["Shift+Tab"] * 4
    ):
        page.keyboard.press(key)
        header, focused = page.evaluate(f"{places}.map(r => [r.top, r.bottom])")
        assert header[1] <= focused[0] < focused[1] <= height


def test_the_word_is_marked_where_colours_are_forced(tmp_path: Path, photo: Path, page: Page) -> None:
    write_report(tmp_path / "r.html", [make_caption(photo, "a cat on the seat")])
    page.emulate_media(forced_colors="active")
    page.goto((tmp_path / "r.html").as_uri())
    outline = "word => getComputedStyle(word).outlineStyle"
    assert word(page, 0, 1).evaluate(outline) == "none"
    word(page, 0, 1).hover()
    assert word(page, 0, 1).evaluate(outline) == "solid"
