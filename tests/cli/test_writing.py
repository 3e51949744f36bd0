"""`--sidecar-ext`, `--separator` and `--format imagefolder`: what training scripts read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from fakes import PHOTOS
from typer.testing import CliRunner

from capcli.cli.app import app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("chelsea.jpg", "coffee.jpg"):
        (tmp_path / "photos" / "a").mkdir(parents=True, exist_ok=True)
        shutil.copy(PHOTOS / name, tmp_path / "photos" / "a")
    return tmp_path / "photos"


def caption(photos: Path, checkpoint: Path, *options: object) -> Result:
    command = ["caption", str(photos), "--model", str(checkpoint), "--device", "cpu", *map(str, options)]
    return CliRunner().invoke(app, command)


def test_a_folder_for_a_trainer(photos: Path, tiny_checkpoint: Path) -> None:
    done = caption(photos, tiny_checkpoint, "--format", "imagefolder", "--output", photos, "--template", "x {caption}")
    assert (done.exit_code, done.stdout) == (0, "")
    whole = (photos / "metadata.jsonl").read_text()
    rows = list(map(json.loads, whole.splitlines()))
    assert [row["file_name"] for row in rows] == ["a/chelsea.jpg", "a/coffee.jpg"]
    assert all(row["text"].startswith("x ") for row in rows)
    first, rest = whole.split("\n", 1)
    (photos / "metadata.jsonl").write_text(f"{first}\n{rest[:9]}")  # as a killed run leaves it
    again = (photos, tiny_checkpoint, "--format", "imagefolder", "--output", photos / "metadata.jsonl")
    assert caption(*again, "--template", "x {caption}", "--resume").exit_code == 0
    assert (photos / "metadata.jsonl").read_text() == whole
    assert caption(*again).exit_code == 2
    elsewhere = photos.parent / "other" / "metadata.jsonl"
    elsewhere.parent.mkdir()
    done = caption(photos, tiny_checkpoint, "--format", "imagefolder", "--output", elsewhere)
    assert done.exit_code == 1
    assert not elsewhere.exists()
    assert "not below the folder of the output" in done.stderr


def test_sidecars_of_another_ending(photos: Path, tiny_checkpoint: Path) -> None:
    (photos / "a" / "chelsea.caption").write_text("Tom")
    options = ("--sidecar", "--sidecar-ext", "caption", "--existing", "append", "--separator", "\\n", "--num", 2)
    assert caption(photos, tiny_checkpoint, *options).exit_code == 0
    assert (photos / "a" / "chelsea.caption").read_text().startswith("Tom\n")
    assert len((photos / "a" / "coffee.caption").read_text().splitlines()) == 2
    assert not list(photos.rglob("*.txt"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sidecar-ext", "caption"], "--sidecar-ext needs --sidecar"),
        (["--sidecar", "--sidecar-ext", ".JPG"], "--sidecar-ext .JPG: not an ending for text files"),
        (["--sidecar", "--sidecar-ext", "a/b"], "--sidecar-ext a/b: not an ending for text files"),
        (["--sidecar", "--sidecar-ext", "xmp"], "--sidecar-ext xmp: --xmp writes XMP sidecars"),
        (["--separator", "; "], "--separator needs --existing append or prepend, or --num with --sidecar or --format"),
        (["--template", "{existing}"], "{existing} in --template needs --existing overwrite, and --sidecar,"),
        (["--format", "imagefolder"], "--format imagefolder needs --output FILE or --output FOLDER/"),
    ],
)
def test_what_would_do_nothing_is_refused(photos: Path, tiny_checkpoint: Path, options: list[str], said: str) -> None:
    done = caption(photos, tiny_checkpoint, *options)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"capcli: {said}")
