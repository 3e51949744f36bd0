import io
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fakes import Found
from photo_files import IN_TWO_LANGUAGES, XMP, encode, exif, files, frames_of, with_segment
from PIL import Image, PngImagePlugin, features

from capcli.outputs.metadata import Metadata, MetadataError, parse, read_caption
from capcli.outputs.metadata.texts import Edit
from capcli.outputs.metadata.tiff import EMPTY
from capcli.outputs.metadata.xmp import DC, RDF
from capcli.outputs.originals import HARD_LINKED, LEADS_OUT, READ_ONLY
from capcli.outputs.template import Template
from capcli.results import ImageError

CAPTION = "a man & a <dog>, ö"


def compressed_pixels(name: str, content: bytes) -> bytes:
    """The bytes that hold the pixels, found by other means than the code under test."""
    if name.endswith(".jpg"):
        return content[content.index(b"\xff\xda") :]
    if name.endswith(".png"):
        return content[content.index(b"IDAT") - 4 : content.rindex(b"IEND") + 8]
    if name.endswith(".webp"):
        start = min(i for i in (content.find(kind) for kind in (b"VP8 ", b"VP8L", b"ANMF")) if i > 0)
        (size,) = struct.unpack_from("<I", content, start + 4)
        return content[start : start + 8 + size]
    with Image.open(io.BytesIO(content)) as image:
        offsets, counts = image.tag_v2[273], image.tag_v2[279]  # type: ignore[attr-defined]
        return b"".join(content[o : o + c] for o, c in zip(offsets, counts, strict=True))


@pytest.mark.parametrize("name", files())
def test_the_caption_is_where_others_look_and_nothing_else_changes(tmp_path: Path, name: str) -> None:
    if name.endswith(".webp") and not features.check("webp"):
        pytest.skip("Pillow was built without WebP")
    before, path = files()[name], tmp_path / name
    path.write_bytes(before)
    Metadata("overwrite").write(Found(str(path), CAPTION))  # type: ignore[arg-type]
    after = path.read_bytes()
    assert frames_of(after) == frames_of(before)
    assert compressed_pixels(name, after) == compressed_pixels(name, before)
    assert read_caption(str(path)) == CAPTION
    with Image.open(io.BytesIO(before)) as old, Image.open(path) as new:
        # Pillow and ElementTree are the other readers here.
        packet = new.info.get("xmp") or new.info.get("XML:com.adobe.xmp") or new.tag_v2[700]  # type: ignore[attr-defined]
        found = ElementTree.fromstring(packet.strip() if isinstance(packet, str) else packet.strip(b"\0"))
        items = found.findall(f".//{{{DC}}}description/{{{RDF}}}Alt/{{{RDF}}}li")
        languages = {item.get("{http://www.w3.org/XML/1998/namespace}lang"): item.text for item in items}
        assert languages["x-default"] == CAPTION
        if not name.endswith(".png") or "exif" in old.info:
            assert new.getexif()[0x010E].encode("latin-1").decode() == CAPTION
        if name.endswith(".png"):
            assert new.text["Description"] == CAPTION  # type: ignore[attr-defined]
        kept = {k: v for k, v in old.info.items() if k not in ("exif", "xmp", "XML:com.adobe.xmp", "Description")}
        assert {k: new.info[k] for k in kept} == kept
        assert kept.keys() >= ({"icc_profile"} if name in ("all.jpg", "text.png", "all.webp") else set())
        for tag, value in old.getexif().items():
            if tag not in (0x010E, 700):
                assert new.getexif()[tag] == value
        assert dict(new.getexif().get_ifd(0x8769)) == dict(old.getexif().get_ifd(0x8769))
        if "xmp" in old.info or "XML:com.adobe.xmp" in old.info:
            assert 'Rating="5"' in (packet if isinstance(packet, str) else packet.decode())
    if name in ("compressed.png", "all.webp"):
        assert languages == {"x-default": CAPTION, "fr": "un chat"}
    if name == "trailing.jpg":
        assert after.endswith(b"a video of the same moment")


@pytest.mark.parametrize("name", ["all.jpg", "text.png", "lossy.webp", "plain.tif"])
def test_captions_already_there_are_respected(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(files()[name])
    found = Found(str(path), "a cat")
    assert Metadata().wants(str(path))
    Metadata(template=Template("{caption},\n photo")).write(found)  # type: ignore[arg-type]
    assert read_caption(str(path)) == "a cat, photo"
    assert not Metadata().wants(str(path))
    with pytest.raises(ImageError, match="already holds a caption"):
        Metadata("fail").wants(str(path))
    once = path.read_bytes()
    Metadata("skip").write(Found(str(path), "a dog"))  # type: ignore[arg-type]
    assert path.read_bytes() == once
    for _ in range(2):
        Metadata("append").write(Found(str(path), "a dog"))  # type: ignore[arg-type]
        assert read_caption(str(path)) == "a cat, photo, a dog"
    Metadata("prepend").write(Found(str(path), "a man"))  # type: ignore[arg-type]
    assert read_caption(str(path)) == "a man, a cat, photo, a dog"


def test_captions_of_other_programs_are_found(tmp_path: Path) -> None:
    described = exif()
    described[0x010E] = "OLD"
    text, latin = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_itxt("Description", "ünï", zip=True)
    latin.add_text("Description", "ünï", zip=True)
    for content, caption in (
        (encode("JPEG", exif=described), "OLD"),
        (encode("JPEG", xmp=XMP % IN_TWO_LANGUAGES), "old & good"),
        (encode("JPEG", xmp=XMP % b"<d:description>simple</d:description>"), "simple"),
        (encode("JPEG", xmp=XMP % b"<d:description/>"), ""),
        (encode("PNG", pnginfo=text), "ünï"),
        (encode("PNG", pnginfo=latin), "ünï"),
        (encode("TIFF", exif=described), "OLD"),
        (encode("WEBP", exif=described), "OLD"),
    ):
        image = parse(content)
        assert image.caption == caption
        assert parse(image.with_texts(Edit(lambda place, old: CAPTION))).caption == CAPTION


@pytest.mark.skipif(os.name != "posix", reason="permissions are of another kind here")
def test_the_file_keeps_its_place_its_permissions_and_its_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real.jpg", tmp_path / "link.jpg"
    real.write_bytes(files()["plain.jpg"])
    real.chmod(0o640)
    link.symlink_to(real)
    Metadata().write(Found(str(link), "a cat"))  # type: ignore[arg-type]
    assert link.is_symlink()
    assert read_caption(str(real)) == "a cat"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.jpg", "real.jpg"]


def test_the_file_keeps_its_time(tmp_path: Path) -> None:
    path, then = tmp_path / "a.jpg", 1_000_000_000_123_456_700
    path.write_bytes(files()["plain.jpg"])
    os.utime(path, ns=(then, then))
    Metadata().write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    assert path.stat().st_mtime_ns == then


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="no extended attributes here")
def test_the_file_keeps_its_extended_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(files()["plain.jpg"])
    if sys.platform == "darwin":
        subprocess.run(["xattr", "-w", "user.comment", "Grandma", path], check=True, timeout=1800)
    else:
        try:
            os.setxattr(path, "user.comment", b"Grandma")
        except OSError:
            pytest.skip("this file system has no extended attributes")
    Metadata().write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    assert read_caption(str(path)) == "a cat"
    if sys.platform == "darwin":
        shown = subprocess.run(["xattr", "-p", "user.comment", path], check=True, timeout=1800, capture_output=True)
        assert shown.stdout.strip() == b"Grandma"
    else:
        assert os.getxattr(path, "user.comment") == b"Grandma"


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are of another kind here")
def test_files_that_are_not_ours_to_write_are_left(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    outside, other = tmp_path / "outside.jpg", tmp_path / "other.jpg"
    for path in (folder / "read-only.jpg", folder / "hard-linked.jpg", outside):
        path.write_bytes(files()["plain.jpg"])
    (folder / "read-only.jpg").chmod(0o444)
    os.link(folder / "hard-linked.jpg", other)
    (folder / "linked.jpg").symlink_to(outside)
    for name, reason in (("read-only", READ_ONLY), ("hard-linked", HARD_LINKED), ("linked", LEADS_OUT)):
        path = folder / f"{name}.jpg"
        metadata = Metadata(folders=[str(folder)])
        for attempt in (metadata.wants, lambda path: metadata.write(Found(path, "a cat"))):  # type: ignore[arg-type] # noqa: B023
            with pytest.raises(ImageError, match=f": {reason}$"):
                attempt(str(path))
        assert path.read_bytes() == files()["plain.jpg"]
    assert other.samefile(folder / "hard-linked.jpg")
    # Where the person named the folder that it leads to as well, a link is followed.
    Metadata(folders=[str(folder), str(tmp_path)]).write(Found(str(folder / "linked.jpg"), "a cat"))  # type: ignore[arg-type]
    assert read_caption(str(outside)) == "a cat"
    assert (folder / "linked.jpg").is_symlink()


def test_a_captioned_file_is_skipped_whoever_may_write_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(files()["plain.jpg"])
    Metadata().write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    path.chmod(0o444)
    assert not Metadata().wants(str(path))


@pytest.mark.skipif(sys.platform != "linux", reason="every file name is Unicode here")
@pytest.mark.parametrize("name", ["plain.jpg", "plain.png", "plain.tif"])
def test_a_name_that_is_not_utf_8_costs_a_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"a\udcff{name}"
    path.write_bytes(files()[name])
    with pytest.raises(ImageError, match="its name is not UTF-8, so the template cannot write it into metadata"):
        Metadata(template=Template("{name}: {caption}")).write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    assert path.read_bytes() == files()[name]
    Metadata().write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    assert read_caption(str(path)) == "a cat"


def test_an_error_leaves_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(files()["plain.jpg"])

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(ImageError, match="permission denied"):
        Metadata().write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    assert path.read_bytes() == files()["plain.jpg"]
    assert os.listdir(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (encode("GIF"), "JPEG, PNG, WebP and TIFF files only"),
        (b"just text", "not an image in a format that can be read"),
        (encode("JPEG")[:100], "damaged JPEG"),
        (encode("PNG")[:60], "damaged"),
        (encode("WEBP")[:60], "damaged WebP"),
        (encode("TIFF")[:60], "damaged"),
        (with_segment(0xE2, b"MPF\0II*\0"), "several pictures in one JPEG"),
        (with_segment(0xE1, b"Exif\0\0nonsense"), "damaged EXIF"),
        (with_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), "damaged EXIF"),
        (with_segment(0xE1, b"Exif\0\0" + EMPTY + b"\0" * 65500), "no room"),
        (with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<a>"), "damaged XMP"),
        (with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<a/>"), "damaged XMP"),
        (with_segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<!DOCTYPE a [<!ENTITY b "c">]><a/>'), "damaged XMP"),
        (with_segment(0xE1, f'http://ns.adobe.com/xap/1.0/\0<r:RDF xmlns:r="{RDF}"/>'.encode()), "without content"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_safely_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        Metadata().write(Found(str(path), "a cat"))  # type: ignore[arg-type]
    assert path.read_bytes() == content


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_give_an_error_or_the_same_pixels() -> None:
    compared = 0
    rng = random.Random(5)
    for name, content in files().items():
        for _ in range(30):
            damaged = bytearray(content)
            for _ in range(rng.choice((1, 2, 8))):
                damaged[rng.randrange(min(len(damaged), 600))] = rng.randrange(256)
            del damaged[rng.choice((len(damaged), rng.randrange(len(damaged)))) :]
            try:
                image = parse(bytes(damaged))
                after = image.with_texts(Edit(lambda place, old: CAPTION))
                assert parse(after).caption == CAPTION, name
            except MetadataError:
                continue
            try:
                before = frames_of(bytes(damaged))
            except Exception:  # Pillow's plugins raise almost anything on damaged files
                continue  # it gets no caption, so nothing will be written into it
            assert frames_of(after) == before, name
            compared += 1
    assert compared > 50
