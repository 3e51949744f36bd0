"""Teaching from the page, with a stand-in for `capcli teach` that does what it is told when it is told."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from folders import make_photos
from serving import Running, running

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.images.find import find_images
from capcli.serve.album import Album
from capcli.serve.api import Api
from capcli.serve.corrections import Corrections
from capcli.serve.folder_page import FolderPage
from capcli.serve.keeping import Keeper
from capcli.serve.limits import Gate
from capcli.serve.teaching import Teaching, is_chosen

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")

# Each line of the pipe is a state to write, "model" to make the checkpoint, or a line to end with.
STAND_IN = """
import json, pathlib, shutil, sys
from capcli.files import LockedFolder
folder, pipe, model = map(pathlib.Path, sys.argv[1:])
locked = LockedFolder(folder)
while True:
    for line in pipe.read_text().splitlines():
        if line == "model":
            shutil.copytree(model, folder, dirs_exist_ok=True)
        elif line.startswith("{"):
            (folder / "teaching.json").write_text(line)
        else:
            sys.exit(line and "capcli: " + line)
"""


class School:
    """A folder whose page teaches, by the stand-in."""

    def __init__(self, folder: Path, before: Captioner, after: Path) -> None:
        self.folder, self.before, self.after = folder, before, after
        self.model, self.pipe = folder / "corrections-model", folder.parent / "pipe"
        if not self.pipe.exists():
            os.mkfifo(self.pipe)
        command = [sys.executable, "-c", STAND_IN, str(self.model), str(self.pipe), str(after)]
        self.teaching = Teaching(self.model, command, "bundled", self.load, is_chosen(self.model))

    def load(self, taught: bool) -> tuple[Captioner, None]:
        return (Captioner.load(self.model, device="cpu") if taught else self.before), None

    def tell(self, *lines: str | dict[str, Any]) -> None:
        """Have the stand-in do something; returns once it reads that."""
        state = {"process": 0, "passes": 12, "seconds_left": None, "gain": None, "held_out": True, "kept": None}
        rest = {"pass": 0, "examples": []}
        texts = [line if isinstance(line, str) else json.dumps(state | rest | line) for line in lines]
        self.pipe.write_text("".join(f"{text}\n" for text in texts))


@pytest.fixture
def school(tiny_captioner: Captioner, tiny_model: CaptionModel, tmp_path: Path) -> School:
    make_photos(tmp_path / "photos", 4)
    tiny_model.decoder.output_bias.data[5] += 9  # type: ignore[union-attr]
    tiny_model.save(tmp_path / "after")
    return School(tmp_path / "photos", tiny_captioner, tmp_path / "after")


@pytest.fixture
def serving(school: School) -> Iterator[Callable[[], Any]]:
    opened = []

    def serve(port: int = 0) -> tuple[Running, Album]:
        api = Api(school.before, Gate())
        album = Album(str(school.folder), Corrections(school.folder / "corrections.json"), Keeper([], []))
        album.start(find_images([album.folder]), school.before, 32, None)
        assert album.thread is not None
        album.thread.join(1800)
        context = running(api, port, folder=FolderPage(api, album, teaching=school.teaching))
        opened.append((context, album))
        return context.__enter__(), album

    yield serve
    for context, album in opened:
        album.close()
        context.__exit__(None, None, None)


def enter(page: Page, server: Running) -> None:
    page.goto(f"{server.address}/?token={server.access.once}")
    page.locator("#stage").wait_for()
    page.get_by_text("Teach", exact=True).first.click()


def save_two(server: Running) -> None:
    photos = server.ask("/page/photos", headers=server.cookie).json["photos"]
    some = [{"id": each["id"], "tag": each["tag"], "caption": "our zorble"} for each in photos[:2]]
    assert server.ask("/page/save", json.dumps({"photos": some}), server.cookie).status == 200


def test_a_model_is_taught_and_used_and_left_again(page: Page, school: School, serving: Any) -> None:
    server, album = serving()
    enter(page, server)
    page.locator("#model", has_text="Model: bundled").wait_for()
    page.locator("#teach").click()
    page.locator("#state", has_text="save two captions or more first").wait_for()
    save_two(server)
    page.locator("#teach").click()
    school.tell({"pass": 3, "seconds_left": 40})
    page.locator("#state", has_text="Teaching: pass 3 of 12, about 40 seconds left.").wait_for()
    page.reload()
    page.locator("#state", has_text="Teaching: pass 3 of 12").wait_for(state="attached")
    page.get_by_text("Teach", exact=True).first.click()
    assert page.locator("#teach").is_hidden()
    example = {"photo": "a/photo1.jpg", "before": "a cat", "after": "our cat", "yours": "our own cat"}
    school.tell({"gain": [60, 70.5], "kept": True, "examples": [example]}, "model", "")
    page.locator("#state", has_text="Photos that were held out: CIDEr-D 60.0 before, 70.5 after.").wait_for()
    assert "before: a cat" in (page.locator("#differences").text_content() or "")
    old = [photo.candidates[0]["caption"] for photo in album.photos]
    page.locator("#use").click()
    page.locator("#model", has_text="Model: corrections-model").wait_for()
    page.locator("#state", has_text="Of 2 photos that you captioned, 0 have your words; of 2 others").wait_for()
    new = [photo.candidates[0]["caption"] for photo in album.photos]
    assert new == [c.text for c in Captioner.load(school.after, device="cpu").caption([p.path for p in album.photos])]
    assert new != old
    assert is_chosen(school.model)
    page.locator("#back").click()
    page.locator("#model", has_text="Model: bundled").wait_for()
    page.locator("#use").wait_for()
    assert album.thread is not None
    album.thread.join(1800)
    assert [photo.candidates[0]["caption"] for photo in album.photos] == old
    assert not is_chosen(school.model)


def test_what_makes_it_worse_is_not_kept_and_that_is_said(page: Page, school: School, serving: Any) -> None:
    server, _ = serving()
    save_two(server)
    enter(page, server)
    page.locator("#teach").click()
    school.tell({"gain": [90.6, 67.1], "kept": False}, "")
    page.locator("#state", has_text="Nothing is kept: photos that were held out are described worse").wait_for()
    assert "CIDEr-D 90.6 before, 67.1 after" in (page.locator("#state").text_content() or "")
    assert page.locator("#use").is_hidden()
    page.locator("#teach").click()
    school.tell("no room on the disk")
    page.locator("#state", has_text="Not taught: no room on the disk").wait_for()


def test_it_is_cancelled_and_a_model_of_before_stays(page: Page, school: School, serving: Any) -> None:
    server, _ = serving()
    save_two(server)
    shutil.copytree(school.after, school.model)
    enter(page, server)
    page.locator("#state", has_text="A model was taught earlier.").wait_for()
    page.locator("#teach").click()
    school.tell({"pass": 1})
    page.locator("#state", has_text="pass 1 of 12").wait_for()
    page.locator("#cancel").click()
    page.locator("#state", has_text="A model was taught earlier.").wait_for()
    assert school.teaching.process is not None
    assert school.teaching.process.poll() is not None
    assert page.locator("#use").is_visible()


def test_another_server_takes_over(page: Page, school: School, serving: Any) -> None:
    """What `kill -9` leaves of the server is nothing; teaching goes on, and the next server finds it."""
    server, _ = serving()
    save_two(server)
    school.teaching.start()
    school.tell({"pass": 2})
    school.tell({"pass": 3})  # which is read once the one before was done
    process, school.teaching.process = school.teaching.process, None
    enter(page, server)
    page.locator("#state", has_text="pass").wait_for()
    assert page.locator("#teach").is_hidden()
    school.tell({"pass": 12, "kept": True}, "model", "")
    page.locator("#use").wait_for()
    assert process is not None
    process.wait(1800)
