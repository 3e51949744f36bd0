"""The commands that the page shows: they are run as they stand, and do what was agreed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes import PHOTOS, SMALL
from fakes import train as run_training
from serving import Served
from typer.testing import CliRunner

from capcli.cli.app import app


@pytest.mark.slow
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
    typed += [
        "--sidecar",
        "--output-dir",
        str(captions),
        "--template",
        "{caption}!",
        "--corrections",
        str(tmp_path / "mine.json"),
    ]
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
