"""TIFF files, and the TIFF structures that EXIF blocks are."""

import struct
from pathlib import Path

import pytest
from photo_files import commented, described, encode, exif, files, put

from capcli.outputs.metadata import Metadata, parse
from capcli.outputs.metadata.tiff import ASCII, Field, read_tag, set_fields
from capcli.results import ImageError


def test_raw_files_of_cameras_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.NEF").write_bytes(encode("TIFF"))
    with pytest.raises(ImageError, match="TIFF files only"):
        Metadata().wants(str(tmp_path / "a.NEF"))


def test_tags_are_added_without_moving_anything() -> None:
    tiff = exif().tobytes().removeprefix(b"Exif\0\0")
    longer = set_fields(tiff, {0x010E: Field(ASCII, b"a cat\0")})
    assert longer[8 : len(tiff)] == tiff[8:]
    assert read_tag(longer, 0x010E) == b"a cat\0"
    assert read_tag(set_fields(longer, {0x010E: Field(ASCII, b"abc\0")}), 0x010E) == b"abc\0"
    assert read_tag(longer, 0x010F).rstrip(b"\0") == b"A maker of cameras"


def test_a_damaged_exif_directory_has_no_comment() -> None:
    content = commented(b"ASCII\0\0\0Grandma")
    at = content.index(struct.pack(">HHI", 0x8769, 4, 1)) + 8
    assert parse(content[:at] + b"\xff\xff\xff\x7f" + content[at + 4 :]).caption == ""


def test_what_stands_behind_a_description_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG", exif=described("Grandma\0by Jo\0")))
    for _ in range(2):
        put(path, "append")
        assert b"Grandma, a cat\0by Jo\0" in path.read_bytes()


def test_only_what_was_appended_here_is_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(files()["big-endian.tif"])
    put(path, "overwrite", "a cat")
    # Another program writes behind it and lets its own directory point there.
    path.write_bytes(path.read_bytes() + b"what another program wrote")
    before = path.read_bytes()
    put(path, "overwrite", "a dog")
    assert path.read_bytes()[8 : len(before)] == before[8:]
    size = path.stat().st_size
    put(path, "overwrite", "a pig")
    assert path.stat().st_size == size
