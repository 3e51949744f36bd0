"""Templates: what is written of a photo, in words of one's own."""

from pathlib import Path

import pytest
from fakes import CAT, Found, write
from PIL import Image

from capcli.outputs.template import Template
from capcli.results import ImageError


def test_a_template_shows_scores_as_rows_do() -> None:
    found = Found("a.jpg", "a cat", -1.2345678901, -6.05000001)
    assert Template("{score} {log_prob} {score:.1f}").fill("a.jpg", found) == "-1.2346 -6.05 -1.2"


def test_a_template_knows_folder_and_date(tmp_path: Path) -> None:
    photo = tmp_path / "my photos" / "a.jpg"
    photo.parent.mkdir()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:17 18:30:00"
    Image.new("RGB", (8, 8)).save(photo, exif=exif)
    found = Found(str(photo), "a cat")
    assert Template("{folder}: {caption}, {date}").fill(str(photo), found) == "my photos: a cat, 2024-05-17"
    assert Template("{date:%Y, %H h} {caption}").fill(str(photo), found) == "2024, 18 h a cat"
    for wrong in ("", "0000:00:00 00:00:00", "yesterday"):
        exif.get_ifd(0x8769)[0x9003] = wrong
        Image.new("RGB", (8, 8)).save(photo, exif=exif)
        assert Template("{caption}, {date}").fill(str(photo), found) == "a cat"
    assert Template("{date} | {caption}").fill("no-such.jpg", CAT) == "a cat"
    assert Template("{date} | {caption}").fill("-", CAT) == "a cat"
    assert write("text", CAT, template=Template("{existing}, {caption}")) == "cat.jpg\ta cat\n"


def test_templates() -> None:
    assert Template("{caption}, photo").fill("a/b.c.jpg", CAT) == "a cat, photo"
    assert Template("{{{name}}} {path} {score:.1f} {log_prob}").fill("a/b.c.jpg", CAT) == "{b.c} a/b.c.jpg -0.5 -3.25"
    assert write("text", CAT, template=Template("<{caption}>")) == "cat.jpg\t<a cat>\n"
    with pytest.raises(ImageError) as error:  # of the image, whose name is not escaped in JSON and in tables
        write("text", Found("x\ty.jpg", "a cat"), template=Template("{score:{name}}"))
    assert error.value.path == "x\ty.jpg"
    for wrong in ("{words}", "{}", "{caption.__class__}", "{caption", "{score:x}"):
        with pytest.raises((ValueError, KeyError, IndexError)):
            Template(wrong)
