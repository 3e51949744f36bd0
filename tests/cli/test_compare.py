"""`capcli compare`, as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fakes import PHOTOS, TINY, WORDS
from folders import process
from PIL import Image
from typer.testing import CliRunner, Result

from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli.app import app
from capcli.model.config import DECODERS, ModelConfig
from capcli.model.vocabulary import Vocabulary

CHELSEA = PHOTOS / "chelsea.jpg"
HARD = ["the likeliest place", "a place drawn for each word", "the mean of 100 draws"]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small checkpoint of each decoder, untrained."""
    folders = []
    for name in DECODERS:
        torch.manual_seed(7)
        config = ModelConfig(**vars(TINY) | {"decoder": name, "feed_previous_word": name != "par-inject"})
        folders.append(tmp_path_factory.mktemp("family") / name)
        CaptionModel(config, Vocabulary(WORDS)).save(folders[-1])
    return folders


def compare(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], **options)  # type: ignore[arg-type]


def test_a_family_side_by_side(family: list[Path], tmp_path: Path) -> None:
    page, sheet = tmp_path / "page.html", tmp_path / "sheet.jpg"
    done = compare(CHELSEA, "--models", *family, "--html", page, "--sheet", sheet)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [*map(str, family), str(family[3]), str(family[3])]
    seen = [DECODERS["pre-inject"].seen, f"{DECODERS['par-inject'].seen}, and no word before it"]
    assert [line[1] for line in lines] == [*seen, DECODERS["soft"].seen, *HARD]
    text = page.read_text("utf-8")
    assert text.count('<li class="card"') == 6
    assert all(line[2] in text for line in lines)
    with Image.open(sheet) as picture:
        assert picture.format == "JPEG"
    again = compare(CHELSEA, "--models", *family)
    assert again.stdout == done.stdout  # draws too


@pytest.mark.slow
def test_standard_input_is_read_for_every_model(family: list[Path]) -> None:
    done = process("compare", "-", "--models", family[0], family[2], input=CHELSEA.read_bytes(), text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([CHELSEA], "name the checkpoints: --models MODEL MODEL ..."),
        (["gone.jpg", "--models", "bundled"], "gone.jpg: no such file"),
        ([CHELSEA, "--models", "bundled", "--html", "page.txt"], "--html page.txt: the name of a page must end in"),
        ([CHELSEA, "--models", "bundled", "--sheet", "sheet.gif"], "--sheet sheet.gif: the name of a contact sheet"),
        ([CHELSEA, "--models", "nowhere/at/all"], "nowhere/at/all: "),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = compare(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"capcli: {said}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_exists_stays(family: list[Path], tmp_path: Path) -> None:
    for option, name in (("--html", "page.html"), ("--sheet", "sheet.png")):
        (tmp_path / name).write_text("mine")
        done = compare(CHELSEA, "--models", family[0], option, tmp_path / name)
        assert done.exit_code == 2
        assert done.stderr.endswith(": exists; remove it, or name another file\n")
        assert (tmp_path / name).read_text() == "mine"


def test_a_broken_photo_writes_nothing(family: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    done = compare(tmp_path / "broken.jpg", "--models", family[0], "--html", tmp_path / "page.html")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"capcli: {tmp_path / 'broken.jpg'}: ")
    assert not (tmp_path / "page.html").exists()
