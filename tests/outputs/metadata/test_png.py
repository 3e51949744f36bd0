"""What only PNG files have: texts of their own, compressed ones, and raw profiles."""

import shutil
import struct
import zlib
from pathlib import Path

import exiftool
import pytest
from photo_files import KURZ, caption, described, encode, human, png_with_profile, png_with_text, put
from PIL import Image, PngImagePlugin

from capcli.outputs.metadata import MetadataError, parse, read_caption
from capcli.outputs.metadata.texts import WRITTEN


def test_a_pngs_other_texts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "by Jo")
    text.add_itxt("Description", "une fête", "fr", "description", zip=True)
    text.add_text("Description", "Großmutter", zip=True)
    path.write_bytes(encode("PNG", pnginfo=text))
    assert read_caption(str(path)) == "Großmutter"
    put(path, "append")
    found = {(each.place, each.text) for each in parse(path.read_bytes()).found}
    assert found == {("PNG", "Großmutter, a cat"), ("XMP", "Großmutter, a cat"), ("translation", "une fête")}
    with Image.open(path) as image:
        assert image.text["Comment"] == "by Jo"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "beginning", "raw"),
    [
        ("exif", b"Exif\0\0", described("Grandma").tobytes().removeprefix(b"Exif\0\0")),
        ("exif", b"", described("Grandma").tobytes().removeprefix(b"Exif\0\0")),
        ("APP1", b"http://ns.adobe.com/xap/1.0/\0", KURZ),
        ("xmp", b"", KURZ),
        ("iptc", b"", human()),
    ],
)
def test_raw_profiles_of_a_png_are_read_and_changed(tmp_path: Path, name: str, beginning: bytes, raw: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_with_profile(f"Raw profile type {name}".encode(), name.encode(), beginning + raw))
    before = read_caption(str(path))
    assert before in ("Grandma", "kurz", "Grandma's 80th birthday")
    after = caption(path, "append")
    texts = [found.text for found in parse(after).found if found.place in WRITTEN and found.field == "description"]
    assert texts == [f"{before}, a cat"] * (2 if raw == KURZ else 3)
    assert caption(path, "append") == after
    if shutil.which("exiftool"):
        found = {tag: text for tag, text in exiftool.read(path).items() if text.endswith("a cat")}
        assert set(found.values()) == {f"{before}, a cat"}
        assert len(found) == len(texts)


@pytest.mark.parametrize("text", [b"iptc 12", b"\niptc\n 3\n0g", b"\niptc\n 3\n123"])
def test_a_raw_profile_that_is_none_is_left_alone(text: bytes) -> None:
    with pytest.raises(MetadataError, match="damaged metadata"):
        parse(png_with_text(b"Raw profile type iptc", text))


def test_packed_text_cannot_grow_without_bound() -> None:
    bomb = zlib.compress(b" " * (1 << 25))
    data = b"XML:com.adobe.xmp\0\1\0\0\0" + bomb
    chunk = struct.pack(">I", len(data)) + b"iTXt" + data + struct.pack(">I", zlib.crc32(b"iTXt" + data))
    content = encode("PNG")
    with pytest.raises(MetadataError, match="too much metadata to read"):
        parse(content[:33] + chunk + content[33:])
