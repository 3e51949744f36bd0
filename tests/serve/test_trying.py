"""The page without a folder, in a browser."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes import PHOTOS
from serving import Running

from capcli.captioner import Captioner
from capcli.explaining.printing import factor
from capcli.explaining.reading import explain

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CANVAS = "document.querySelector('canvas')?.toDataURL() ?? null"
NASTY = "<img src=x onerror=alert(1)>.jpg"


@pytest.fixture
def at_home(page: Page, server: Running) -> Page:
    """The page, entered by the address that is printed."""
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#drop").wait_for()
    page.wait_for_load_state()  # of the page behind the one that enters: its scripts have come
    return page


def give(page: Page, *photos: str | Path) -> None:
    """Choose photos, and wait until they are captioned."""
    page.locator("#files").set_input_files([Path(photo) for photo in photos])
    page.locator("#cards .card:not([aria-busy])").nth(len(photos) - 1).wait_for()


def test_photos_are_captioned_with_heat_and_other_candidates(
    at_home: Page, server: Running, tiny_captioner: Captioner, complaints: list[str], requests: list[str]
) -> None:
    page = at_home
    give(page, PHOTOS / "chelsea.jpg", PHOTOS / "coffee.jpg")
    assert page.locator("#count").text_content() == "2 photos captioned"
    card = page.locator(".card").first
    expected = tiny_captioner.caption(PHOTOS / "chelsea.jpg", 5)
    assert card.locator("p.caption").text_content() == expected.text
    assert card.locator(".others .caption").all_text_contents() == [c.text for c in expected.candidates[1:]]
    assert card.locator("img").get_attribute("alt") == expected.text
    assert page.evaluate(CANVAS) is None
    card.locator(".w").first.hover()
    first = page.evaluate(CANVAS)
    assert first is not None
    card.locator(".w").nth(1).focus()
    assert page.evaluate(CANVAS) not in (None, first)
    assert "looks at the" in card.locator(".status").text_content()

    page.evaluate("document.activeElement.blur()")
    card.get_by_label("Your own sentence").fill("a dog")
    page.keyboard.press("Enter")
    card.locator(".note").wait_for()
    (explained,) = explain(tiny_captioner, PHOTOS / "chelsea.jpg", ["a dog"])
    assert card.locator(".own .caption").text_content() == "a dog"
    assert (
        card.locator(".note").text_content().startswith(f"{factor(explained.gain)} as likely as over a blank picture")
    )
    assert card.locator(".own .doubted").count() == sum(explained.doubted[:2])
    card.locator(".own .w").nth(1).hover()
    assert "dog: " in card.locator(".status").text_content()
    assert complaints == []
    assert {url.split("/")[2] for url in requests} == {f"127.0.0.1:{server.port}"}


def test_photos_are_dropped_and_pasted(at_home: Page, tmp_path: Path) -> None:
    page = at_home
    bytes_of = "Uint8Array.from(atob(data), c => c.charCodeAt(0))"
    data = base64.b64encode((PHOTOS / "coffee.jpg").read_bytes()).decode()
    for kind, holder, index in (("drop", "dataTransfer", 0), ("paste", "clipboardData", 1)):
        event = "DragEvent" if kind == "drop" else "ClipboardEvent"
        page.evaluate(
            f"""data => {{
                const given = new DataTransfer();
                given.items.add(new File([{bytes_of}], "{kind}.jpg"));
                const event = new {event}("{kind}", {{{holder}: given, bubbles: true, cancelable: true}});
                document.getElementById("drop").dispatchEvent(event);
            }}""",
            data,
        )
        page.locator(".card:not([aria-busy])").nth(index).wait_for()
        assert page.locator(".card .path").first.text_content() == f"{kind}.jpg"


def test_names_and_errors_are_only_text(at_home: Page, tmp_path: Path, complaints: list[str]) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    odd = tmp_path / NASTY
    odd.write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    give(at_home, odd, bad)
    assert at_home.locator(".path").all_text_contents() == [NASTY, "bad.jpg"]
    assert at_home.locator(".problem").all_text_contents() == ["not an image in a format that can be read"]
    assert at_home.locator("#count").text_content() == "1 photo captioned, 1 failed"
    assert all("422" in complaint for complaint in complaints)


def test_photos_chosen_before_the_script_has_come_are_captioned(page: Page, server: Running) -> None:
    def late(route: Route) -> None:
        page.locator("#files").set_input_files(PHOTOS / "coffee.jpg")
        route.continue_()

    page.route("**/try.js", late)
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator(".card:not([aria-busy])").wait_for()
    assert page.locator("#count").text_content() == "1 photo captioned"


def test_the_address_works_once(browser: Browser, at_home: Page, server: Running) -> None:
    assert at_home.url == f"{server.address}/"
    at_home.reload()  # the cookie holds
    at_home.locator("#drop").wait_for()
    stranger = browser.new_context()
    stranger.set_default_timeout(120_000)
    page = stranger.new_page()
    page.goto(f"{server.address}/")
    assert page.locator("#drop").count() == 0
    page.get_by_label("Token").fill(server.access.token)
    page.keyboard.press("Enter")
    page.locator("#drop").wait_for()
    stranger.close()


def test_a_script_of_another_site_reads_nothing(browser: Browser, at_home: Page, server: Running) -> None:
    """Another server of this machine, which a browser takes for the same site, so that the cookie is sent."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>other</title>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = at_home.context.new_page()
        page.goto(f"http://127.0.0.1:{other.server_address[1]}/")
        tried = """async address => {
            const tries = [
                fetch(address + "/openapi.json", {credentials: "include"}),
                fetch(address + "/v1/caption", {method: "POST", body: "x", credentials: "include"}),
                fetch(address + "/v1/caption", {method: "POST", body: "x", credentials: "include", mode: "no-cors"})
                    .then(() => { throw "opaque" }),
            ];
            return (await Promise.allSettled(tries)).map(one => one.status);
        }"""
        assert page.evaluate(tried, server.address) == ["rejected"] * 3
        page.close()
        other.shutdown()
    assert server.api.gate.images == 0


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("path", ["/", "/docs", "/login"])
def test_axe_finds_no_barrier(browser: Browser, server: Running, path: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(120_000)
    page = context.new_page()
    if path != "/login":
        page.goto(f"{server.address}/?token={server.access.once}")
        page.locator("#drop").wait_for()
    page.goto(server.address + path)
    if path == "/":
        give(page, PHOTOS / "coffee.jpg")
        page.get_by_label("Your own sentence").fill("a dog")
        page.keyboard.press("Enter")
        page.locator(".note").wait_for()
    found = axe.Axe().run(page).response["violations"]
    context.close()
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []


@pytest.mark.parametrize("text_size", ["100%", "200%"])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_narrow_windows_need_no_sideways_scrolling(at_home: Page, path: str, text_size: str, server: Running) -> None:
    at_home.goto(server.address + path)
    if path == "/":
        give(at_home, PHOTOS / "coffee.jpg")
    at_home.set_viewport_size({"width": 320, "height": 640})
    at_home.evaluate(f"document.documentElement.style.fontSize = '{text_size}'")
    assert at_home.evaluate("document.documentElement.scrollWidth") == 320


def dropping(page: Page, items: str, photo: Path) -> None:
    """Drop what an expression makes of a photo's File."""
    page.evaluate(
        f"""data => {{
            const content = Uint8Array.from(atob(data), c => c.charCodeAt(0));
            const file = new File([content], "inside.jpg", {{type: "image/jpeg"}});
            const event = new Event("drop", {{bubbles: true, cancelable: true}});
            event.dataTransfer = {{items: {items}}};
            document.getElementById("drop").dispatchEvent(event);
        }}""",
        base64.b64encode(photo.read_bytes()).decode(),
    )


FOLDER = """[{kind: "file", webkitGetAsEntry: () => ({isDirectory: true, name: "holiday", createReader: () => {
    const notes = {isFile: true, name: "notes.txt", file: take => take(new File(["x"], "notes.txt"))};
    const left = [[{isFile: true, name: "inside.jpg", file: take => take(file)}, notes], []];
    return {readEntries: take => take(left.shift())};
}})}]"""


def test_the_photos_of_a_dropped_folder_are_captioned(at_home: Page) -> None:
    dropping(at_home, FOLDER, PHOTOS / "coffee.jpg")
    at_home.get_by_text("1 photo captioned").wait_for()
    assert at_home.locator(".path").all_text_contents() == ["inside.jpg"]


def test_a_folder_without_photos_is_told(at_home: Page) -> None:
    dropping(at_home, FOLDER.replace("take(file)", 'take(new File(["x"], "a.txt"))'), PHOTOS / "coffee.jpg")
    at_home.get_by_text("There is no photo in what was dropped.").wait_for()


def test_an_empty_file_is_told_in_a_persons_words(at_home: Page, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    give(at_home, tmp_path / "empty.jpg")
    assert at_home.locator(".problem").text_content() == ("This file is empty. Was it copied or downloaded to its end?")


def test_results_survive_a_reload_and_can_be_cleared(at_home: Page, complaints: list[str]) -> None:
    give(at_home, PHOTOS / "chelsea.jpg", PHOTOS / "coffee.jpg")
    before = at_home.locator(".caption").all_text_contents()
    at_home.reload()
    assert at_home.locator("#count").text_content() == "2 photos captioned"
    assert sorted(at_home.locator(".caption").all_text_contents()) == sorted(before)
    card = at_home.locator(".card").first
    card.get_by_label("Your own sentence").fill("a dog")
    at_home.keyboard.press("Enter")
    card.locator(".note").wait_for()
    at_home.get_by_role("button", name="Clear").click()
    assert at_home.locator(".card").count() == 0
    at_home.reload()
    assert at_home.locator(".card").count() == 0
    assert complaints == []


def test_captions_and_ones_own_sentence_are_on_one_scale(at_home: Page) -> None:
    give(at_home, PHOTOS / "chelsea.jpg")
    best = at_home.locator("p.caption").first.text_content() or ""
    at_home.get_by_label("Your own sentence").fill(best)
    at_home.keyboard.press("Enter")
    at_home.locator(".note").wait_for()
    scores = at_home.locator(".score").all_text_contents()
    assert len(scores) == 6
    assert all(score.startswith("fit ") for score in scores)
    assert scores[0] == scores[-1]  # the same sentence


def test_captions_are_copied_and_downloaded(at_home: Page, tmp_path: Path) -> None:
    at_home.context.grant_permissions(["clipboard-read", "clipboard-write"])
    give(at_home, PHOTOS / "chelsea.jpg")
    best = at_home.locator("p.caption").first.text_content()
    at_home.get_by_role("button", name="Copy").first.click()
    at_home.get_by_role("button", name="Copied").wait_for()
    assert at_home.evaluate("navigator.clipboard.readText()") == best
    texts = {}
    for kind in ("CSV", "JSON"):
        with at_home.expect_download() as waiting:
            at_home.get_by_role("button", name=f"Download {kind}").click()
        waiting.value.save_as(tmp_path / kind)
        texts[kind] = (tmp_path / kind).read_bytes().decode()
    assert texts["CSV"] == f'\ufeff"file_path","caption"\r\n"chelsea.jpg","{best}"\r\n'
    assert json.loads(texts["JSON"])[0]["file_path"] == "chelsea.jpg"
    assert json.loads(texts["JSON"])[0]["captions"][0] == best
