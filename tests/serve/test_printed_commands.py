"""The commands that the page shows: they are run as they stand, and do what was agreed."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from conftest import PHOTOS
from tiny_runs import SMALL
from tiny_runs import train as run_training
from typer.testing import CliRunner

pytest.importorskip("uvicorn", reason="needs the extra serve")
pytest.importorskip("python_multipart", reason="needs the extra serve")

from capcli.cli.app import app

TOKEN = "a-token-for-this-test"


class Served:
    """`capcli serve` as somebody typed it, until the block is left."""

    def __init__(self, command: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CAPCLI_TOKEN", TOKEN)
        assert command[0] == "capcli"
        self.process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Served:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"open http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(found[1])
                return self
        raise AssertionError("it did not start")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> str:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=1800)
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
        for photo in json.loads(self.ask("GET", "/page/photos"))["photos"]:
            self.ask("PUT", f"/page/photos/{photo['id']}", {"caption": text}, **{"If-Match": photo["tag"]})


def test_what_the_page_prints_keeps_the_options_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, captions = tmp_path / "my photos", tmp_path / "captions"
    folder.mkdir()
    for name in ("chelsea.jpg", "coffee.jpg"):
        shutil.copy(PHOTOS / name, folder)
    shutil.copy(PHOTOS / "coffee.jpg", folder / "draft.jpg")
    data = tmp_path / "data.json"
    rows = [{"file_path": str(folder / name), "captions": ["a cat"]} for name in ("chelsea.jpg", "coffee.jpg")]
    data.write_text(json.dumps(rows))
    trained = tmp_path / "run"
    done = run_training(data, "--output", trained, "--epochs", 1, "--allow-outside", *SMALL)
    assert done.exit_code == 0, done.output

    typed = ["capcli", "serve", str(folder), "--port", "0", "--model", str(trained), "--exclude", "draft*"]
    typed += ["--output-dir", str(captions), "--template", "{caption}!", "--corrections", str(tmp_path / "mine.json")]
    with Served(typed, monkeypatch) as server:
        teach, again = server.commands()
        server.save("our zorble")
    assert (captions / "chelsea.txt").read_text() == "our zorble!\n"
    done = CliRunner().invoke(app, teach[1:])
    assert done.exit_code == 0, done.output
    with Served(again, monkeypatch) as server:
        server.save("a zorble")
    assert sorted(path.name for path in captions.iterdir()) == ["chelsea.txt", "coffee.txt"]
    assert (captions / "chelsea.txt").read_text() == "a zorble!\n"
    taught = json.loads((tmp_path / "mine-model" / "config.json").read_text())
    assert taught["words_before"] is not None
