"""`capcli info PHOTO`: every caption of a photo, where it is, and whose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import Found
from photo_files import described, encode
from typer.testing import CliRunner

from capcli.cli.app import app
from capcli.outputs.metadata import Metadata
from capcli.outputs.whose import shown_by_readers, texts_of
from capcli.outputs.xmp_sidecars import XmpSidecars

BY = "capcli bundled 1234abcd"


def test_the_page_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    photo = Path("photos/coffee.jpg")
    photo.write_bytes(encode("JPEG", exif=described("My mug")))
    Metadata("append").write(Found(str(photo), "a cup of coffee on a table", by=BY))  # type: ignore[arg-type]
    text = (Path(__file__).parents[2] / "docs/metadata.md").read_text("utf-8")
    (shown,) = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    said = ""
    for command in re.findall(r"^\$ capcli (.*)$", shown, re.M):
        done = CliRunner().invoke(app, command.split())
        assert done.exit_code == 0
        said += f"$ capcli {command}\n{done.stdout}{done.stderr}"
    assert said == shown


def test_every_place_has_a_line(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(encode("JPEG", exif=described("SONY DSC")))
    found = Found(str(photo), "a cat", keywords=("cat",), by=BY)
    XmpSidecars(fields=("alt", "keywords")).write(found)  # type: ignore[arg-type]
    photo.with_suffix(".txt").write_text("mine")
    assert [(Path(each.place).name, each.field, each.text, each.whose) for each in texts_of(str(photo))] == [
        ("EXIF", "description", "SONY DSC", "a camera or program"),
        ("a.jpg.xmp", "alt", "a cat", "capcli"),
        ("a.jpg.xmp", "keywords", "cat", "capcli"),
        ("a.txt", "text", "mine", "not known"),
    ]
    Metadata("overwrite").write(Found(str(photo), "grandma"))  # type: ignore[arg-type]
    told = texts_of(str(photo))
    assert [each.whose for each in told[:2]] == ["not capcli's"] * 2
    assert {each.text for each in shown_by_readers(told).values()} == {"grandma"}
