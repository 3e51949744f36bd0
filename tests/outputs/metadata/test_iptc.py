"""Captions in IPTC blocks: in JPEG's APP13, in TIFF's fields, in PNG's raw profiles."""

import hashlib
import struct
from pathlib import Path

import exiftool
import pytest
from exiftool import needs_exiftool
from photo_files import (
    CITY,
    KEYWORD,
    THUMBNAIL,
    all_formats,
    app13,
    block,
    caption,
    files,
    frames_of,
    human,
    iptc_of,
    jpeg,
    jpeg_with,
    resource,
    tiff_with,
)

from capcli.outputs.metadata import Metadata, MetadataError, parse, read_caption
from capcli.outputs.metadata.iptc import datasets, with_texts
from capcli.outputs.metadata.photoshop import resources
from capcli.outputs.metadata.texts import Edit
from capcli.results import ImageError

UTF_8 = (1, 90, b"\x1b%G")


@pytest.mark.parametrize("name", all_formats(human()))
def test_an_iptc_caption_is_a_caption_that_is_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(all_formats(human())[name])
    assert read_caption(str(path)) == "Grandma's 80th birthday"
    assert not Metadata().wants(str(path))
    with pytest.raises(ImageError, match="already holds a caption"):
        Metadata("fail").wants(str(path))
    assert caption(path, "skip") == all_formats(human())[name]


@pytest.mark.parametrize("name", all_formats(human()))
@pytest.mark.parametrize(
    ("existing", "text"),
    [
        ("overwrite", "a cat"),
        ("append", "Grandma's 80th birthday, a cat"),
        ("prepend", "a cat, Grandma's 80th birthday"),
    ],
)
def test_an_iptc_caption_is_updated(tmp_path: Path, name: str, existing: str, text: str) -> None:
    path = tmp_path / name
    before = all_formats(human())[name]
    path.write_bytes(before)
    once = caption(path, existing)
    found = [each for each in parse(once).found if each.field == "description"]
    assert {each.text for each in found if each.place in ("IPTC", "XMP", "EXIF", "PNG")} == {text}
    assert sum(each.place == "IPTC" for each in found) == 1 + (name == "photoshop.tif")
    assert frames_of(once) == frames_of(before)
    assert caption(path, existing) == once


@pytest.mark.parametrize("content", [jpeg_with, tiff_with])
def test_other_datasets_and_resources_stay_byte_for_byte(tmp_path: Path, content) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a"
    path.write_bytes(content(human()))
    after = caption(path, "overwrite", "a much longer caption than there was before")
    assert iptc_of(after) == human(b"a much longer caption than there was before")
    assert THUMBNAIL in after or content is tiff_with


def test_no_block_and_no_caption_is_added_to_iptc(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(files()["plain.jpg"])
    assert b"Photoshop" not in caption(path, "overwrite")
    keywords = app13(resource(0x0404, block(KEYWORD)))
    path.write_bytes(jpeg(keywords))
    assert Metadata().wants(str(path))
    assert keywords in caption(path, "overwrite")


def test_an_empty_iptc_caption_gets_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for empty in (b"", b"   ", b"OLYMPUS DIGITAL CAMERA         "):
        path.write_bytes(jpeg_with(human(empty)))
        assert Metadata().wants(str(path))
        assert iptc_of(caption(path, "skip")) == human(b"a cat")


def test_photoshops_digest_follows_where_it_was_right(tmp_path: Path) -> None:
    path = tmp_path / "a"
    right, stale = hashlib.md5(human()).digest(), hashlib.md5(b"before another program came").digest()
    new = human(b"a cat")
    path.write_bytes(jpeg_with(human(), resource(0x0425, right)))
    assert resource(0x0425, hashlib.md5(new).digest()) in caption(path, "overwrite")
    path.write_bytes(jpeg_with(human(), resource(0x0425, stale)))
    assert resource(0x0425, stale) in caption(path, "overwrite")
    path.write_bytes(tiff_with(human(), resource(0x0425, right)))
    assert resource(0x0425, hashlib.md5(new).digest()) in caption(path, "overwrite")
    # With TIFF's type LONG zeros fill the block up, and the digest may be that with or without them.
    for filled in (human(), human().ljust(-(-len(human()) // 4) * 4, b"\0")):
        path.write_bytes(tiff_with(human(), resource(0x0425, hashlib.md5(filled).digest()), is_long=True))
        after = caption(path, "overwrite")
        zeros = b"\0" * (-len(new) % 4) if filled != human() else b""
        assert resource(0x0425, hashlib.md5(new + zeros).digest()) in after


@pytest.mark.parametrize(
    ("before", "text", "after"),
    [
        # Nothing says UTF-8, and nothing else needs to be Latin-1: it is declared.
        ([KEYWORD, (2, 120, b"x")], "Hüte", [UTF_8, KEYWORD, (2, 120, "Hüte".encode())]),
        ([(1, 0, b"\0\4"), (1, 100, b"1"), (2, 120, b"x")], "Hüte",
         [(1, 0, b"\0\4"), UTF_8, (1, 100, b"1"), (2, 120, "Hüte".encode())]),
        ([(1, 90, b"\x1b.A"), (2, 120, b"x")], "Hüte", [UTF_8, (2, 120, "Hüte".encode())]),
        ([UTF_8, (2, 25, "Käse".encode()), (2, 120, b"x")], "Hüte",
         [UTF_8, (2, 25, "Käse".encode()), (2, 120, "Hüte".encode())]),
        # Another text is in Latin-1 and is not to be touched.
        ([(2, 25, b"K\xe4se"), (2, 120, b"x")], "Hüte", [(2, 25, b"K\xe4se"), (2, 120, b"H\xfcte")]),
        ([(2, 25, b"K\xe4se"), (2, 120, b"x")], "猫", "cannot hold the new caption"),
        # ASCII is the same in all of them.
        ([(2, 25, b"K\xe4se"), (2, 120, b"x")], "a cat", [(2, 25, b"K\xe4se"), (2, 120, b"a cat")]),
        ([(1, 90, b"\x1b%/L"), (2, 120, b"x")], "a cat", "unknown character set"),
        ([(2, 120, b"x")], "a" * 2001, "no room for a caption in its IPTC block"),
    ],
)  # fmt: skip
def test_the_character_set_is_right(
    before: list[tuple[int, int, bytes]], text: str, after: str | list[tuple[int, int, bytes]]
) -> None:
    if isinstance(after, str):
        with pytest.raises(MetadataError, match=after):
            with_texts(block(*before), Edit(lambda place, old: text))
    else:
        assert with_texts(block(*before), Edit(lambda place, old: text)) == block(*after)


def test_what_is_added_to_a_text_in_latin_1_leaves_its_bytes() -> None:
    added = with_texts(block((2, 120, b"Gro\xdfmutter"), CITY), Edit(lambda place, old: f"{old}, a cat"))
    assert added == block((2, 120, b"Gro\xdfmutter, a cat"), CITY)
    shift_jis = "猫が".encode("shift_jis")
    added = with_texts(block((2, 120, shift_jis)), Edit(lambda place, old: f"{old}, a cat"))
    assert added == block((2, 120, shift_jis + b", a cat"))


@pytest.mark.parametrize(
    "iptc",
    [human()[:-3], human() + b"\x1c\2", human() + b"more", b"\x1c\2\x78\x80\4\xff\xff\xff\xff", b"\x1c\2\x78\xff\xff"],
)
def test_damaged_iptc_is_left_alone(tmp_path: Path, iptc: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_with(iptc))
    with pytest.raises(ImageError, match="damaged"):
        caption(path, "overwrite")
    assert path.read_bytes() == jpeg_with(iptc)


def test_unusual_blocks_are_read() -> None:
    extended = b"\x1c\2\x78\x80\4" + struct.pack(">I", 5) + b"a cat"
    assert parse(jpeg_with(extended + bytes(7))).caption == "a cat"
    assert [d.key for d in datasets(human() + b"\0\0")] == [(2, 0), (2, 25), (2, 120), (2, 90)]
    found, zeros = resources(THUMBNAIL + b"PHUT" + THUMBNAIL[4:] + b"\0\0\0")
    assert [r.number for r in found] == [0x040C, 0x040C]
    assert zeros == b"\0\0\0"


@needs_exiftool
@pytest.mark.parametrize("name", ["plain.jpg", "all.jpg", "plain.png", "text.png", "plain.tif", "big-endian.tif"])
@pytest.mark.parametrize("utf_8", [True, False])
def test_exiftool_reads_what_it_wrote_and_we_changed(tmp_path: Path, name: str, utf_8: bool) -> None:
    path = tmp_path / name
    path.write_bytes(files()[name])
    words = ["-codedcharacterset=utf8"] if utf_8 else []
    words += ["-IPTC:Caption-Abstract=Großmutters 80.", "-IPTC:Keywords=Käse", "-IPTC:City=Hamburg"]
    exiftool.write(path, "-charset", "iptc=latin", *words)
    if name.endswith(".jpg"):
        exiftool.write(path, "-Photoshop:IPTCDigest=new")
    before = exiftool.read(path)
    complaints = exiftool.complaints(path)
    assert read_caption(str(path)) == "Großmutters 80."
    caption(path, "append")
    after = exiftool.read(path)
    assert after["IPTC:Caption-Abstract"] == "Großmutters 80. A cat."
    assert after["XMP-dc:Description"] == "Großmutters 80. A cat."
    for tag in ("IPTC:Keywords", "IPTC:City", "IPTC:CodedCharacterSet"):
        assert after.get(tag) == before.get(tag)
    if name.endswith(".jpg"):
        assert after["Photoshop:IPTCDigest"] == after["File:CurrentIPTCDigest"] != before["Photoshop:IPTCDigest"]
    caption(path, "overwrite", "ein Hündchen")
    assert exiftool.read(path)["IPTC:Caption-Abstract"] == "ein Hündchen"
    assert exiftool.read(path)["IPTC:Keywords"] == "Käse"
    assert exiftool.complaints(path) <= complaints


@needs_exiftool
@pytest.mark.parametrize("name", files())
def test_exiftool_finds_the_caption_and_nothing_wrong(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(files()[name])
    before, complaints = exiftool.read(path), exiftool.complaints(path)
    caption(path, "overwrite", "ein Mann & ein <Hund>")
    after = exiftool.read(path)
    assert exiftool.complaints(path) <= complaints
    texts = {tag: text for tag, text in after.items() if tag.split(":")[-1] in ("Description", "ImageDescription")}
    assert set(texts.values()) == {"ein Mann & ein <Hund>"}
    assert "XMP-dc:Description" in texts
    volatile = (
        "System:",
        "ExifTool:",
        "File:ExifByteOrder",
        "XMP-x:",
        "XMP-dc:Description",
        "RIFF:",
        "File:FileType",
        "File:MIME",
        "ExifIFD:Maker",
    )
    for tag, value in before.items():
        if not tag.startswith(volatile) and "Offset" not in tag and tag not in texts:
            assert after[tag] == value
