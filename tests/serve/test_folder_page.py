"""The page of a folder: what it asks for, and how it is used in a browser, by keyboard alone."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from folders import make_photos
from PIL import Image
from serving import TOKEN, Answer, Running, serving_folder

from capcli.captioner import Captioner
from capcli.outputs.sidecars import Sidecars
from capcli.serve.access import Access
from capcli.serve.album import Album
from capcli.training.data.datasets import read_data_set

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

KILLS = 40 if os.environ.get("CAPCLI_FULL_TESTS") else 3
SAVES_EACH = 5
PIXEL = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.drawImage(document.querySelector("#photo"), 0, 0);
  return canvas.getImageData(9, 9, 1, 1).data.join();
}"""
CANVAS = "document.querySelector('canvas')?.toDataURL() ?? null"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight photos in which there is something to see, one of one colour, and a broken one."""
    make_photos(tmp_path / "photos", 8)
    Image.new("RGB", (60, 60), "teal").save(tmp_path / "photos" / "plain.png")
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


@pytest.fixture
def album_served(tiny_captioner: Captioner, folder: Path) -> Iterator[tuple[Running, Album]]:
    with serving_folder(tiny_captioner, folder, lambda existing: [Sidecars(existing)]) as served:
        yield served


def put(server: Running, photo: dict[str, Any], caption: object, tag: str | None = None) -> Answer:
    headers = server.cookie | {"If-Match": f'"{tag or photo["tag"]}"'}
    return server.ask(f"/page/photos/{photo['id']}", json.dumps({"caption": caption}), headers, "PUT")


def post(server: Running, path: str, value: object) -> Answer:
    return server.ask(path, json.dumps(value), server.cookie)


def picture(photo: dict[str, Any]) -> str:
    return f"/photos/{photo['id']}/{photo['content']}/160"


def photos_of(server: Running) -> dict[str, dict[str, Any]]:
    return {photo["name"]: photo for photo in server.ask("/page/photos", headers=server.cookie).json["photos"]}


def rows(folder: Path) -> dict[str, list[str]]:
    return {row["file_path"]: row["captions"] for row in json.loads((folder / "corrections.json").read_text())}


def test_photos_come_with_their_captions(album_served: tuple[Running, Album], tiny_captioner: Captioner) -> None:
    server, album = album_served
    answer = server.ask("/page/photos", headers=server.cookie).json
    assert (answer["all"], answer["done"], answer["complete"]) == (10, 10, True)
    photos = {photo["name"]: photo for photo in answer["photos"]}
    expected = tiny_captioner.caption(album.photos[photos["photo3.jpg"]["id"]].path, 5)
    assert [c["caption"] for c in photos["photo3.jpg"]["candidates"]] == [c.text for c in expected.candidates]
    assert photos["plain.png"]["unsure"]
    assert photos["bad.jpg"]["error"] == "not an image in a format that can be read"
    assert server.ask(f"/page/photos?since={answer['change']}", headers=server.cookie).json["photos"] == []


def test_pictures_are_made_small_and_only_of_the_folders_photos(album_served: tuple[Running, Album]) -> None:
    server, album = album_served
    photos = photos_of(server)
    answer = server.ask(picture(photos["photo1.jpg"]), headers=server.cookie)
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.body)).size == (90, 70)
    assert server.ask(picture(photos["bad.jpg"]), headers=server.cookie).status == 422
    assert server.ask(picture(photos["photo1.jpg"] | {"content": "another"}), headers=server.cookie).status == 404
    content = photos["photo1.jpg"]["content"]
    for place in ("99/{}/160", "0/{}/161", "-1/{}/160", "0/160", "0//160", "..%2f..%2fetc%2fpasswd/{}/160"):
        path = f"/photos/{place.format(content)}"
        assert server.ask(path, headers=server.cookie).status == 404
    assert server.ask(picture(photos["photo1.jpg"]), headers=None).status == 401
    # A link that somebody puts there later leads nowhere.
    outside = Path(album.folder).parent / "outside.jpg"
    outside.write_bytes((Path(album.folder) / "photo1.jpg").read_bytes())
    (Path(album.folder) / "photo1.jpg").unlink()
    try:
        (Path(album.folder) / "photo1.jpg").symlink_to(outside)
    except OSError:
        return
    gone = server.ask(picture(photos["photo1.jpg"]), headers=server.cookie)
    assert (gone.status, gone.json["path"]) == (422, "photo1.jpg")
    assert post(server, f"/page/photos/{photos['photo1.jpg']['id']}/read", {"sentences": ["a cat"]}).status == 422


def test_a_photos_address_names_its_content(tiny_captioner: Captioner, tmp_path: Path) -> None:
    """Whatever a folder holds in another run: other photos, more photos, or another photo of the same name and size."""
    file = tmp_path / "photos" / "b.bmp"
    file.parent.mkdir()
    Image.new("RGB", (8, 8), "red").save(file)
    addresses = []
    for change in ("none", "another before it", "replaced", "elsewhere"):
        if change == "another before it":
            Image.new("RGB", (8, 8), "green").save(file.with_name("a.bmp"))
        elif change == "replaced":
            before = file.stat()
            Image.new("RGB", (8, 8), "blue").save(file)
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        elif change == "elsewhere":
            os.replace(file.parent, tmp_path / "moved")
            file = tmp_path / "moved" / "b.bmp"
        with serving_folder(tiny_captioner, file.parent) as (server, _):
            photo = photos_of(server)["b.bmp"]
            for address in addresses:
                assert server.ask(address, headers=server.cookie).status == 404
            addresses.append(picture(photo))
            answer = server.ask(addresses[-1], headers=server.cookie)
            red, _, blue = Image.open(io.BytesIO(answer.body)).convert("RGB").getpixel((4, 4))  # type: ignore[misc]
            assert (red > blue) == (change in ("none", "another before it"))
    assert len(set(addresses)) == 4


def test_a_page_of_another_run_changes_nothing(tiny_captioner: Captioner, folder: Path) -> None:
    with serving_folder(tiny_captioner, folder) as (server, _):
        photo = photos_of(server)["photo1.jpg"]
        save = put(server, photo, "a boat").json["save"]
    with serving_folder(tiny_captioner, folder) as (server, _):
        assert put(server, photos_of(server)["photo2.jpg"], "a dog").status == 200
        for answer in (
            put(server, photo, "another"),
            post(server, "/page/save", {"photos": [{"id": photo["id"], "tag": photo["tag"]}]}),
            post(server, "/page/undo", {"save": save}),
        ):
            assert answer.status == 410
        assert "conflicts" not in put(server, photo, "another").json  # which the page would take for its own photos
    assert rows(folder) == {"photo1.jpg": ["a boat"], "photo2.jpg": ["a dog"]}


def test_saves_conflicts_and_undoing(album_served: tuple[Running, Album], folder: Path) -> None:
    server, _ = album_served
    photo = photos_of(server)["photo1.jpg"]
    first = put(server, photo, "  a red\tboat ")
    assert (first.status, first.json["photos"][0]["saved"]) == (200, "a red boat")
    assert rows(folder) == {"photo1.jpg": ["a red boat"]}
    assert (folder / "photo1.txt").read_text() == "a red boat\n"
    second = put(server, photo, "another")  # of a page that has not seen the first
    assert (second.status, second.json["conflicts"][0]["saved"]) == (409, "a red boat")
    assert rows(folder) == {"photo1.jpg": ["a red boat"]}
    assert put(server, second.json["conflicts"][0], "another").status == 200
    assert post(server, "/page/undo", {"save": first.json["save"]}).status == 409
    assert server.ask(f"/page/photos/{photo['id']}", "{}", server.cookie, "PUT").status == 428


def test_many_are_accepted_at_once(album_served: tuple[Running, Album], folder: Path) -> None:
    server, _ = album_served
    photos = photos_of(server)
    put(server, photos["photo2.jpg"], "a boat")
    some = [{"id": photos[f"photo{i}.jpg"]["id"], "tag": photos[f"photo{i}.jpg"]["tag"]} for i in range(4)]
    answer = post(server, "/page/save", {"photos": some}).json
    assert [photo["name"] for photo in answer["conflicts"]] == ["photo2.jpg"]
    best = {f"photo{i}.jpg": [photos[f"photo{i}.jpg"]["candidates"][0]["caption"]] for i in (0, 1, 3)}
    assert rows(folder) == best | {"photo2.jpg": ["a boat"]}
    assert post(server, "/page/undo", {"save": answer["save"]}).status == 200
    assert rows(folder) == {"photo2.jpg": ["a boat"]}
    assert sorted(path.name for path in folder.glob("*.txt")) == ["photo2.txt"]


@pytest.mark.parametrize("caption", ["", " ", "...", None, 3, ["a"], "a\0cat", "\ud800 cat", "a\u202ecat"])
def test_what_is_no_caption_is_refused(album_served: tuple[Running, Album], folder: Path, caption: object) -> None:
    server, _ = album_served
    assert put(server, photos_of(server)["photo1.jpg"], caption).status == 422
    assert not (folder / "corrections.json").exists()


def test_odd_requests_are_refused(album_served: tuple[Running, Album]) -> None:
    server, _ = album_served
    photo = photos_of(server)["photo1.jpg"]
    assert put(server, photo, "a cat " * 300).status == 413
    assert put(server, photo | {"id": 99}, "a cat").status == 404
    for body in ("[" * 100_000, "{", "[]", "1", b"\xff"):
        assert server.ask("/page/undo", body, server.cookie).status in (400, 413)
    for value in ({}, {"save": "1"}, {"save": 99}, {"save": True}):
        assert post(server, "/page/undo", value).status == 410
    for photos in (None, [], [1], [{"id": 99, "tag": "x"}], [{"id": True, "tag": "x"}], [{"id": 0}], [{}] * 101):
        assert post(server, "/page/save", {"photos": photos}).status == 422
    for sentences in (None, [], ["a"] * 7, [3], [""]):
        assert post(server, f"/page/photos/{photo['id']}/read", {"sentences": sentences}).status == 422
    for since in ("x", "9" * 50, "-1"):
        assert server.ask(f"/page/photos?since={since}", headers=server.cookie).status == 200
    assert server.reports == []


def test_a_full_disk_is_told(
    album_served: tuple[Running, Album], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = album_served

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "corrections.json")

    monkeypatch.setattr("capcli.serve.corrections.write_whole", full)
    answer = put(server, photos_of(server)["photo1.jpg"], "a boat")
    assert (answer.status, answer.json["error"]) == (
        507,
        "nothing is saved: corrections.json: no space left on device",
    )
    assert not (folder / "photo1.txt").exists()
    assert photos_of(server)["photo1.jpg"]["saved"] is None


@pytest.mark.slow
@pytest.mark.timeout(max(1800, KILLS * 90))
def test_a_killed_server_has_lost_no_save_that_it_confirmed(tiny_files: Path, folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "capcli",
        "serve",
        str(folder),
        "--port",
        "0",
        "--sidecar",
        "--model",
        str(tiny_files),
    ]
    saved: dict[str, str] = {}
    for kill in range(KILLS):
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ | {"CAPCLI_TOKEN": TOKEN}
        ) as process:
            assert process.stderr is not None
            port = int(re.findall(r"127\.0\.0\.1:(\d+)/", process.stderr.readline())[0])
            server = Running(None, Access("127.0.0.1", port, TOKEN), port)  # type: ignore[arg-type]
            bearer = {"Authorization": f"Bearer {TOKEN}"}
            photos: list[dict[str, Any]] = []
            while len(photos) < 10:
                photos = server.ask("/page/photos", headers=bearer).json["photos"]
            for i in range(SAVES_EACH):
                photo = photos[(kill + i) % 7]
                headers = bearer | {"If-Match": photo["tag"]}
                text = f"a boat number {kill} {i}"
                answer = server.ask(f"/page/photos/{photo['id']}", json.dumps({"caption": text}), headers, "PUT")
                assert answer.status == 200, answer
                saved[photo["name"]] = text
            process.kill()
        assert rows(folder) == {name: [text] for name, text in saved.items()}
        for name, text in saved.items():
            assert (folder / name).with_suffix(".txt").read_text() == f"{text}\n"


# In a browser.


@pytest.fixture
def opened(page: Page, album_served: tuple[Running, Album]) -> Page:
    """The page, entered by the address that is printed."""
    server, _ = album_served
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#stage").wait_for()
    return page


def place(page: Page) -> str:
    return page.locator("#place").text_content() or ""


def by_sureness(server: Running) -> list[str]:
    ready = [photo for photo in photos_of(server).values() if photo["candidates"]]
    ready.sort(key=lambda p: (not p["unsure"], p["confidence"] or p["candidates"][0]["score"], p["id"]))
    return [photo["name"] for photo in ready]


def test_five_captions_are_corrected_by_keyboard(
    opened: Page,
    album_served: tuple[Running, Album],
    folder: Path,
    complaints: list[str],
    requests: list[str],
) -> None:
    page, (server, _) = opened, album_served
    names, photos = by_sureness(server), photos_of(server)
    assert place(page) == f"1 of 9: {names[0]}"
    assert photos[names[0]]["unsure"]
    assert "Unsure" in page.locator("#mark").text_content()
    assert page.locator("#failures li").all_text_contents() == ["bad.jpg: not an image in a format that can be read"]
    page.locator("#candidates .w").first.wait_for()  # the heat has come

    wanted = {}
    for i in range(3):  # typed
        wanted[names[i]] = f"a boat number {i}"
        page.keyboard.press("e")
        page.keyboard.insert_text(wanted[names[i]])
        page.keyboard.press("Enter")
        page.get_by_text(f"{i + 2} of 9: {names[i + 1]}", exact=True).wait_for()
    for i, key in ((3, "3"), (4, "2")):  # taken from the other candidates
        wanted[names[i]] = photos[names[i]]["candidates"][int(key) - 1]["caption"]
        page.keyboard.press(key)
        assert page.locator("#field").input_value() == wanted[names[i]]
        page.keyboard.press("Enter")
        page.get_by_text(f"{i + 2} of 9: {names[i + 1]}", exact=True).wait_for()
    assert "9 photos, 5 saved, 1 failed" in page.locator("#count").text_content()
    assert f"Saved: {wanted[names[4]]}" in page.locator("#said").text_content()
    assert rows(folder) == {name: [caption] for name, caption in wanted.items()}
    for name, caption in wanted.items():
        assert (folder / name).with_suffix(".txt").read_text() == f"{caption}\n"
    read = {photo.path.name: photo.captions[0] for photo in read_data_set(str(folder / "corrections.json")).photos}
    assert read == wanted

    page.keyboard.press("p")
    assert place(page).startswith("5 of 9")
    page.keyboard.press("ArrowRight")
    assert place(page).startswith("6 of 9")
    page.keyboard.press("u")
    page.get_by_text(f"5 of 9: {names[4]}", exact=True).wait_for()
    assert rows(folder).keys() == set(names[:4])
    assert not (folder / names[4]).with_suffix(".txt").exists()
    assert complaints == []
    assert {url.split("/")[2] for url in requests} == {f"127.0.0.1:{server.port}"}


def test_heat_scores_filters_search_and_bulk(opened: Page, album_served: tuple[Running, Album], folder: Path) -> None:
    page, (server, _) = opened, album_served
    page.locator("#candidates .w").first.hover()
    assert page.evaluate(CANVAS) is not None
    page.locator("#field").fill("a dog")
    page.locator("#score").click()
    page.locator("#own .note").wait_for()
    page.keyboard.press("Escape")

    page.locator("#next").click()
    page.locator("#previous").click()
    assert page.locator("#field").input_value() == "a dog"  # what was typed is kept
    page.locator("#field").press("Enter")
    page.get_by_text("2 of 9: ").first.wait_for()
    page.locator("#filter").select_option("corrected")
    assert place(page).startswith("1 of 1: ")
    page.locator("#filter").select_option("unsure")
    unsure = [photo for photo in photos_of(server).values() if photo["unsure"]]
    assert place(page).startswith(f"1 of {len(unsure)}: ")
    page.locator("#filter").select_option("untouched")
    assert place(page).startswith("1 of 8: ")
    page.locator("#search").fill("photo3 JPG")
    assert place(page) == "1 of 1: photo3.jpg"
    page.locator("#search").fill("nothing like this")
    assert page.locator("#nothing").text_content() == "No photo is like that."
    page.locator("#search").fill("")

    page.locator("#accept").click()
    page.locator("#sure").get_by_text("Cancel").click()
    assert len(rows(folder)) == 1
    page.locator("#accept").click()
    assert page.locator("#question").text_content() == "Accept the model's first caption of these 8 photos?"
    assert page.locator("#meant li").count() == 8
    page.locator("#sure").get_by_text("Accept", exact=True).click()
    page.get_by_text("9 photos, 9 saved, 0 shown, 1 failed").wait_for()
    assert len(rows(folder)) == 9
    page.locator("#filter").select_option("accepted")
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("u")
    page.get_by_text("9 photos, 1 saved, 0 shown, 1 failed").wait_for()
    assert len(rows(folder)) == 1


def test_two_tabs_do_not_overwrite_each_other(opened: Page, album_served: tuple[Running, Album], folder: Path) -> None:
    one, (server, _) = opened, album_served
    two = one.context.new_page()
    two.goto(server.address)
    two.locator("#stage").wait_for()
    two.route("**/page/photos?*", lambda route: route.abort())  # it does not hear of the other
    name = by_sureness(server)[0]
    for page, caption in ((one, "the first"), (two, "the second")):
        page.locator("#field").fill(caption)
        page.locator("#field").press("Enter")
    two.get_by_text("“the first” was saved elsewhere meanwhile").wait_for()
    assert rows(folder) == {name: ["the first"]}
    assert two.locator("#field").input_value() == "the second"
    two.locator("#field").press("Escape")
    assert two.locator("#field").input_value() == "the first"
    two.locator("#field").fill("the third")
    two.locator("#field").press("Enter")
    two.get_by_text("2 of 9: ").first.wait_for()
    assert rows(folder) == {name: ["the third"]}
    two.close()


def test_another_runs_photos_are_not_shown(page: Page, tiny_captioner: Captioner, tmp_path: Path) -> None:
    port = 0
    for color in ("red", "blue"):
        (tmp_path / color).mkdir()
        Image.new("RGB", (60, 60), color).save(tmp_path / color / "photo.png")
        with serving_folder(tiny_captioner, tmp_path / color, port=port) as (server, _):
            port = server.port
            page.goto(f"{server.address}/?token={server.access.once}")
            page.locator("#stage").wait_for()
            page.wait_for_function("document.querySelector('#photo').naturalWidth > 0")
            red, _, blue, _ = map(int, page.evaluate(PIXEL).split(","))
            assert (red > 200, blue > 200) == (color == "red", color == "blue")


def test_a_tab_of_another_run_asks_to_be_loaded_anew(page: Page, tiny_captioner: Captioner, tmp_path: Path) -> None:
    for name in "ab":
        make_photos(tmp_path / name, 3)
    with serving_folder(tiny_captioner, tmp_path / "a") as (server, _):
        port = server.port
        page.goto(f"{server.address}/?token={server.access.once}")
        page.locator("#field").fill("a boat")
    with serving_folder(tiny_captioner, tmp_path / "b", port=port) as (server, _):
        other = page.context.new_page()
        other.goto(f"{server.address}/?token={server.access.once}")
        other.locator("#stage").wait_for()
        page.get_by_text("capcli serve was restarted: reload this page.").wait_for()
        page.locator("#field").press("Enter")
        page.locator("#save:not([disabled])").wait_for()
        assert "capcli serve was restarted" in page.locator("#problem").text_content()
        assert page.locator("#field").input_value() == "a boat"
        assert not (tmp_path / "b" / "corrections.json").exists()
        other.close()


def test_single_keys_can_be_turned_off(opened: Page) -> None:
    before = place(opened)
    opened.get_by_text("Keys", exact=True).click()
    opened.locator("#keys").uncheck()
    opened.evaluate("document.activeElement.blur()")
    opened.keyboard.press("n")
    assert place(opened) == before
    opened.locator("#keys").check()
    opened.evaluate("document.activeElement.blur()")
    opened.keyboard.press("n")
    assert place(opened) != before


def test_names_are_only_text(page: Page, tiny_captioner: Captioner, tmp_path: Path, complaints: list[str]) -> None:
    folder = tmp_path / "<b>photos"
    make_photos(folder, 1)
    odd = "<img src=x onerror=alert(1)>\ud83d.jpg".encode("utf-8", "surrogatepass") if os.name != "nt" else b"odd.jpg"
    os.rename(folder / "photo0.jpg", os.path.join(os.fsencode(folder), odd))
    with serving_folder(tiny_captioner, folder) as (server, _):
        page.goto(f"{server.address}/?token={server.access.once}")
        page.locator("#stage").wait_for()
        assert page.locator("h1").text_content() == "<b>photos"
        assert page.locator("#place").text_content().startswith("1 of 1: <img" if os.name != "nt" else "1 of 1: odd")
        page.locator("#field").fill("a boat")
        page.locator("#field").press("Enter")
        page.get_by_text("1 photo, 1 saved").wait_for()
    assert len(rows(folder)) == 1
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_barrier(browser: Browser, album_served: tuple[Running, Album], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    server, _ = album_served
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(1_800_000)
    page = context.new_page()
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#candidates .w").first.wait_for()
    page.locator("#score").click()
    page.locator("#own .note").wait_for()
    for summary in page.locator("summary").all():
        summary.click()
    found = axe.Axe().run(page).response["violations"]
    context.close()
    assert [(rule["id"], node["html"]) for rule in found for node in rule["nodes"]] == []


@pytest.mark.parametrize("text_size", ["100%", "200%"])
def test_narrow_windows_need_no_sideways_scrolling(opened: Page, text_size: str) -> None:
    opened.locator("#candidates .w").first.wait_for()
    opened.set_viewport_size({"width": 320, "height": 640})
    opened.evaluate(f"document.documentElement.style.fontSize = '{text_size}'")
    assert opened.evaluate("document.documentElement.scrollWidth") == 320


def test_accepted_and_corrected_look_different_without_colour(opened: Page) -> None:
    opened.keyboard.press("Enter")
    opened.locator("#strip .accepted").wait_for()
    opened.keyboard.press("e")
    opened.keyboard.insert_text("a red boat")
    opened.keyboard.press("Enter")
    opened.locator("#strip .corrected").wait_for()
    content = "e => getComputedStyle(e, '::after').content"
    marks = [opened.locator(f"#strip .{kind}").evaluate(content) for kind in ("accepted", "corrected")]
    assert "✓" in marks[0]
    assert "✎" in marks[1]
