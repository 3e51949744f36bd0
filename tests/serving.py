"""A server on the loopback, with the tiny model, in a thread of the test's own process."""

from __future__ import annotations

import contextlib
import html
import http.client
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fakes import PHOTOS
from folders import photo_bytes

for package in ("starlette", "uvicorn", "python_multipart"):
    pytest.importorskip(package, reason="needs the extra serve")

from capcli.images.find import find_images  # noqa: E402
from capcli.outputs.metadata import Metadata  # noqa: E402
from capcli.outputs.rows import as_row  # noqa: E402
from capcli.outputs.sidecars import Sidecars  # noqa: E402
from capcli.outputs.template import Template  # noqa: E402
from capcli.outputs.xmp_sidecars import XmpSidecars  # noqa: E402
from capcli.results import Candidate, Caption  # noqa: E402
from capcli.serve.access import Access  # noqa: E402
from capcli.serve.album import Album  # noqa: E402
from capcli.serve.api import Api  # noqa: E402
from capcli.serve.app import make_app  # noqa: E402
from capcli.serve.corrections import Corrections  # noqa: E402
from capcli.serve.folder_page import FolderPage  # noqa: E402
from capcli.serve.keeping import Keeper  # noqa: E402
from capcli.serve.limits import Gate  # noqa: E402
from capcli.serve.server import listen, make_server  # noqa: E402

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.outputs.sink import Sink
    from capcli.serve.saves import Saved

COFFEE = (PHOTOS / "coffee.jpg").read_bytes()
CHELSEA = (PHOTOS / "chelsea.jpg").read_bytes()
TOKEN = "token-of-the-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE = 1800  # seconds, a guard against hanging


@dataclass
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Running:
    """A server that runs."""

    api: Api
    access: Access
    port: int
    reports: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cookie(self) -> dict[str, str]:
        """What a browser sends that was let in."""
        return {"Cookie": f"{self.access.cookie_name}={self.access.cookie}", "Origin": self.address}

    def ask(
        self, path: str, body: Any = None, headers: dict[str, str] | None = BEARER, method: str | None = None
    ) -> Answer:
        """One request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
            got = connection.getresponse()
            return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
        finally:
            connection.close()


@contextlib.contextmanager
def running(api: Api, port: int = 0, **options: Any) -> Iterator[Running]:
    """Run a server while a test lasts. port: 0 takes a free one. options: of make_app."""
    listening = listen("127.0.0.1", port)
    port = listening.getsockname()[1]
    here = Running(api, Access("127.0.0.1", port, TOKEN), port)
    started = threading.Event()
    server = make_server(make_app(api, here.access, here.reports.append, **options), started.set)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield here
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        api.close()
        listening.close()


@contextlib.contextmanager
def serving_folder(
    captioner: Captioner, folder: Path, sinks: Callable[[str], list[Sink]] = lambda existing: [], port: int = 0
) -> Iterator[tuple[Running, Album]]:
    """Run a server of a folder's page, with captions of all its photos.

    sinks: that captions go to.
    port: 0 takes a free one.
    """
    api = Api(captioner, Gate())
    keeper = Keeper(sinks("skip"), sinks("overwrite"))
    readers = [Sidecars(), XmpSidecars(), Metadata()]
    album = Album(str(folder), Corrections(folder / "corrections.json"), keeper, readers=readers)
    album.start(find_images([str(folder)]), captioner, 32, None)
    assert album.thread is not None
    album.thread.join(PATIENCE)
    try:
        with running(api, port, folder=FolderPage(api, album)) as here:
            yield here, album
    finally:
        album.close()


class Served:
    """`capcli serve` as somebody typed it, until the block is left."""

    def __init__(self, command: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CAPCLI_TOKEN", TOKEN)
        assert command[0] == "capcli"
        self.process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Served:
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if found := re.search(r"open http://127\.0\.0\.1:(\d+)/\S+", line):
                self.port, self.open = int(found[1]), found[0].removeprefix("open ")
                return self
        raise AssertionError(said)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Authorization": f"Bearer {TOKEN}", **headers})
        answer = connection.getresponse()
        said = answer.read().decode()
        assert answer.status == 200, said
        return said

    def commands(self) -> list[list[str]]:
        """What the page shows, as a shell would read it."""
        shown = re.search(r'aria-label="Commands"><code>(.*?)</code>', self.ask("GET", "/"), re.DOTALL)
        assert shown is not None
        return [shlex.split(line) for line in html.unescape(shown[1]).splitlines()]

    def save(self, text: str) -> None:
        """Save a caption of every photo."""
        while not (answer := json.loads(self.ask("GET", "/page/photos")))["complete"]:
            pass
        for photo in answer["photos"]:
            self.ask("PUT", f"/page/photos/{photo['id']}", {"caption": text}, **{"If-Match": photo["tag"]})


def form(
    *files: tuple[str, bytes], fields: dict[str, str] | Sequence[tuple[str, str]] = ()
) -> tuple[bytes, dict[str, str]]:
    """A form with files, (name, content), and fields; its body and its headers."""
    pieces = []
    for name, content in files:
        head = f'--limit\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        pieces += [head.encode(), content, b"\r\n"]
    for name, text in fields.items() if isinstance(fields, dict) else fields:
        pieces += [f'--limit\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()]
    return b"".join(pieces) + b"--limit--\r\n", BEARER | {"Content-Type": "multipart/form-data; boundary=limit"}


def said(path: str, text: str = "a cat") -> Caption:
    candidates = (
        Candidate(text, tuple(text.split()), (), -3.0, -0.5),
        Candidate("a dog", ("a", "dog"), (), -4.0, -0.7),
    )
    return Caption(path, candidates)


def sinks(kinds: str, existing: str) -> list[Sink]:
    template = Template("{caption}!")
    made: dict[str, Sink] = {"s": Sidecars(existing, template), "m": Metadata(existing, template)}
    made["x"] = XmpSidecars(existing, template)
    return [made[kind] for kind in kinds]


def open_album(folder: Path, kinds: str = "", existing: str | None = "skip", number: int = 3) -> Album:
    """An album whose photos are captioned."""
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(number):
        path = folder / f"photo{i}.jpg"
        if not path.exists():
            path.write_bytes(photo_bytes(i))
        paths.append(str(path))
    keeper = Keeper(sinks(kinds, existing or "skip"), sinks(kinds, "overwrite"), existing)
    readers = [Sidecars(), XmpSidecars(), Metadata()]
    album = Album(str(folder), Corrections(folder / "corrections.json"), keeper, readers=readers)
    list(album.listing(paths))
    album.take(0, [said(path) for path in paths])
    return album


def save(album: Album, number: int, text: str | None) -> Saved:
    photo = album.photos[number]
    return album.save([(photo, album.tag(photo), text)])


def row(captioner: Captioner, photo: str, name: str, num: int = 1, **options: object) -> dict[str, object]:
    """What `--format json` writes for a photo of this name."""
    caption = captioner.caption(PHOTOS / photo, num, replace(captioner.options, **options))  # type: ignore[arg-type]
    return as_row(caption, num) | {"path": name}
