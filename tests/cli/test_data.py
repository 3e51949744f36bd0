import json
import shutil
from pathlib import Path

import pytest
from fakes import PHOTOS
from PIL import Image
from typer.testing import CliRunner

from capcli.cli.app import app

pytest.importorskip("pycocoevalcap", reason="the train extra is not installed")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A data set of which much is odd."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(PHOTOS / "coffee.jpg", folder / f"{name}.jpg")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("RGB", (500, 80)).save(folder / "narrow.png")
    Image.new("RGB", (20, 20)).save(folder / "small.png")
    long = " ".join(["word"] * 41)
    rows = [
        ("a.jpg", "train", ["a cup of coffee", "a cup of coffee"]),
        ("b.jpg", "train", ["cup"]),
        ("c.jpg", "dev", ["a cup of coffee", "a cup of coffee"]),
        ("bad.jpg", "train", [long]),
        ("narrow.png", "train", ["a narrow black photo"]),
        ("small.png", "dev", ["a small black photo"]),
    ]
    listed = [{"file_path": name, "split": split, "captions": captions} for name, split, captions in rows]
    (folder / "data.json").write_text(json.dumps(listed))
    return folder


def test_it_says_what_is_there_and_what_is_odd(odd: Path) -> None:
    done = CliRunner().invoke(app, ["data", str(odd), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["data"], found["photos"], found["splits"]) == ("odd", 6, {"train": 4, "dev": 2})
    assert found["captions"] == {"count": 8, "least": 1, "mean": 1.3, "most": 2}
    assert (found["words"]["different"], found["words"]["learnt"], found["words"]["longest"]) == (9, 5, 41)
    assert {kind: len(several) for kind, several in found["odd"].items()} == {
        "captions of fewer than 3 words": 1,
        "captions of more than 40 words": 1,
        "photos with a caption twice": 2,
        "photos whose captions another split has too": 1,
        "photos that cannot be read": 1,
        "photos more than 4 times as long as wide": 1,
        "photos with a side below 64 pixels": 1,
        "photos that are there twice": 1,
        "photos that are there in train and in dev": 1,
    }
    assert len(found["samples"]) == 6
    lines = CliRunner().invoke(app, ["data", str(odd)]).stdout.splitlines()
    assert lines[0].split() == "photos 6 train 4, dev 2".split()
    assert lines[2].split() == "words 9 5 of them 4 times or more; 8.2 in each caption, 1 to 41".split()
    assert "odd               1  captions of fewer than 3 words, such as" in lines
    assert "                     b.jpg: cup" in lines


def test_a_sheet_of_samples(odd: Path, tmp_path: Path) -> None:
    (odd / "bad.jpg").unlink()
    shutil.copy(PHOTOS / "chelsea.jpg", odd / "bad.jpg")
    sheet = tmp_path / "sheet.png"
    assert CliRunner().invoke(app, ["data", str(odd), "--sheet", str(sheet)]).exit_code == 0
    with Image.open(sheet) as drawn:
        assert drawn.width == 1200
        assert len(drawn.convert("RGB").getcolors(1 << 24) or []) > 1000  # the photos are on it
    done = CliRunner().invoke(app, ["data", str(odd), "--sheet", str(sheet)])
    assert (done.exit_code, done.stderr) == (2, f"capcli: {sheet}: exists; name another file\n")


def test_no_data_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", str(tmp_path / "none")])
    assert (done.exit_code, done.stderr) == (2, f"capcli: {tmp_path / 'none'}: no such file or folder\n")
