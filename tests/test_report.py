import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chromium import EXECUTABLE, Chromium
from PIL import Image

from capcli.captioner import Candidate, Caption
from capcli.heatmaps import OverlayOptions
from capcli.images import ImageError
from capcli.report import HtmlReport, pack, where

NASTY = '<script>alert("&\'")</script>'


def make_caption(path: Path, text: str, seed: int = 0) -> Caption:
    words = tuple(text.split())
    weights = torch.rand(len(words), 49, generator=torch.Generator().manual_seed(seed)).pow(4)
    weights = (weights / weights.sum(1, keepdim=True)).unflatten(1, (7, 7))
    gates = torch.linspace(0.1, 1, len(words))
    candidate = Candidate(
        text.replace(" '", "'"), words, (-0.7,) * (len(words) + 1), -3.0, -0.5, weights, gates, cell_offset=0.35
    )
    return Caption(**vars(candidate), path=str(path), candidates=(candidate, replace(candidate, score=-0.9)))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").resize((400, 300)).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def write_report(page: Path, results: list[Caption | ImageError], num: int = 1, scale: str = "word") -> str:
    report = HtmlReport(page, OverlayOptions(scale=scale), num)
    for result in results:
        report.write(result)
    assert not page.exists()  # the old page stays until the new one is complete
    report.close()
    return page.read_text("utf-8")


def test_everything_is_escaped_and_nothing_lies_outside(tmp_path: Path, photo: Path) -> None:
    odd = tmp_path / f"{NASTY.replace('/', '⁄')}\udcff.png"
    odd.write_bytes(photo.read_bytes())
    caption = make_caption(odd, f"a {NASTY} cat 's")
    text = write_report(tmp_path / "r.html", [caption, ImageError(f"{NASTY}.jpg", "no picture\udcff")], num=2)
    assert "<script>alert" not in text
    assert html.escape(NASTY) in text
    assert "cat</button><button" in text  # 's joins its word
    for address in re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?([^"'> ]*)""", text):
        assert address.startswith("data:image/jpeg;base64,")
    assert not re.search(r"url\(|fetch\(|import[ (]|XMLHttpRequest|https?:", text)
    assert f'alt="{html.escape(caption.text)}"' in text
    assert 'width="320" height="240" loading="lazy"' in text
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


def test_without_a_row_there_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "r.html").write_text("mine")
    HtmlReport(tmp_path / "r.html", OverlayOptions()).close()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("r.html", "mine")]


def test_sentences_without_candidates_can_be_searched(tmp_path: Path, photo: Path) -> None:
    text = write_report(tmp_path / "r.html", [replace(make_caption(photo, "a cat sleeps"), candidates=())])
    assert 'photo.png a cat sleeps"' in text


def test_captions_without_attention_are_plain(tmp_path: Path, photo: Path) -> None:
    caption = make_caption(photo, "a cat")
    text = write_report(tmp_path / "r.html", [replace(caption, attention=None, candidates=())])
    assert '<p class="caption">a cat</p>' in text
    assert "data-heat=" not in text.split("<script>")[0]


def test_weights_take_a_byte_each() -> None:
    assert pack(torch.tensor([[0.0, 1.0], [0.5, 0.2]])) == "AP+AMw=="
    heat = torch.zeros(7, 7)
    heat[0, 6] = 1
    assert where(heat, 0.35) == "top right"
    assert where(torch.eye(3)[1:2].T @ torch.eye(3)[1:2], 0) == "centre"


@pytest.fixture
def browser(tmp_path: Path) -> Chromium:
    if EXECUTABLE is None:
        pytest.skip("no Chromium is installed")
    browser = Chromium(tmp_path / "profile")
    yield browser
    browser.close()


CANVAS = "document.querySelector('canvas')?.toDataURL() ?? null"
ON = "document.querySelector('.w.on')?.textContent ?? null"


def word(card: int, index: int) -> str:
    return f"document.querySelectorAll('.card')[{card}].querySelectorAll('.w')[{index}]"


def test_in_a_browser(tmp_path: Path, photo: Path, browser: Chromium) -> None:
    captions = [make_caption(photo, f"a cat on seat{i}", i) for i in range(60)]
    write_report(tmp_path / "r.html", [*captions, ImageError("bad.jpg", "the file is empty")], num=2)
    browser.open((tmp_path / "r.html").as_uri())
    assert browser.run("document.getElementById('count').textContent") == "60 pictures, 1 failed (listed at the end)"
    assert browser.run("document.getElementById('failures').textContent").endswith("bad.jpg: the file is empty")
    assert browser.run("document.querySelector('.card img').decode().then(() => true)")
    assert browser.run(CANVAS) is None

    browser.hover(word(0, 1))
    first = browser.run(CANVAS)
    assert browser.run(ON) == "cat"
    assert "cat: 50%, looks at the " in browser.run("document.querySelector('.status').textContent")
    browser.hover(word(0, 2))
    second = browser.run(CANVAS)
    assert first != second
    assert None not in (first, second)
    browser.hover(word(40, 1))  # far down, not yet laid out
    assert browser.run("document.querySelector('canvas').closest('.card').dataset.search").endswith("seat40")
    browser.hover("document.querySelector('h1')")
    assert browser.run(CANVAS) is None

    # the strongest cell is where the overlay is most opaque
    at = captions[0].attention[1].flatten().argmax().item()
    browser.hover(word(0, 1))
    x, y = browser.run(
        "(c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let best = 0;"
        " for (let i = 3; i < d.length; i += 4) if (d[i] > d[best * 4 + 3]) best = i >> 2;"
        " return [best % c.width / c.width, Math.floor(best / c.width) / c.height] })(document.querySelector('canvas'))"
    )
    assert (int(y * 7), int(x * 7)) == divmod(at, 7)

    browser.run("document.activeElement.blur(), document.getElementById('search').focus()")
    browser.press("Tab", 9)
    assert browser.run(ON) == "a"
    by_keyboard = browser.run(CANVAS)
    browser.press("Tab", 9)
    assert browser.run(ON) == "cat"
    assert browser.run(CANVAS) == first
    browser.press("ArrowLeft", 37)
    assert browser.run(CANVAS) == by_keyboard
    browser.press("Escape", 27)
    assert browser.run(CANVAS) is None

    browser.run(f"{word(0, 1)}.click()")  # as a tap does
    browser.run("document.getElementById('scale').click()")
    assert browser.run(CANVAS) not in (first, None)

    browser.hover("document.querySelector('h1')")  # or the search might bring a word under the mouse
    browser.run(f"{word(0, 1)}.click()")
    browser.press("/", 191)
    browser.call("Input.insertText", text="SEAT7 cat")
    assert browser.run("document.querySelectorAll('.card:not([hidden])').length") == 1
    assert browser.run("document.getElementById('count').textContent").startswith("1 of 60 pictures")
    assert browser.run(CANVAS) is None

    light = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert browser.run("getComputedStyle(document.body).backgroundColor") != light

    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    names = {(n.get("role", {}).get("value"), n.get("name", {}).get("value")) for n in nodes}
    assert ("image", "a cat on seat7") in names
    assert ("button", "cat") in names
    assert ("searchbox", "Search") in names

    assert browser.complaints() == []
    assert browser.requests() == [(tmp_path / "r.html").as_uri()]


def test_two_thousand_pictures_stay_usable(tmp_path: Path, photo: Path, browser: Chromium) -> None:
    Image.new("RGB", (40, 30)).save(photo)
    caption = make_caption(photo, "a cat on the red seat near two big dogs")
    write_report(tmp_path / "r.html", [caption] * 2000)
    browser.open((tmp_path / "r.html").as_uri())
    assert browser.run("document.getElementById('count').textContent") == "2000 pictures"
    assert "2000 pictures, " in browser.run("document.querySelector('footer').textContent")
    browser.hover(word(1999, 1))
    assert browser.run(CANVAS) is not None
    # what is far away is not rendered
    rendered = "[...document.images].filter(i => i.checkVisibility({contentVisibilityAuto: true})).length"
    assert 0 < browser.run(rendered) < 100
    assert browser.complaints() == []
