"""Whose words a text in metadata is, and what becomes of several that differ."""

from pathlib import Path

import pytest
from photo_files import (
    KURZ,
    USER_COMMENT,
    XMP,
    XP_COMMENT,
    commented,
    described,
    encode,
    files,
    human,
    jpeg_with,
    put,
    two_captions,
)
from PIL import Image, TiffImagePlugin

from capcli.outputs.metadata import Metadata, parse, read_caption
from capcli.outputs.metadata.texts import CAMERA_DEFAULTS, WRITTEN, decode_text, words
from capcli.results import ImageError

ALT_TEXT = (
    b'<rdf:Description xmlns:i="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"><i:AltTextAccessibility><rdf:Alt>'
    b"<rdf:li xml:lang='x-default'>an old woman</rdf:li></rdf:Alt></i:AltTextAccessibility></rdf:Description>"
)


def texts(path: Path) -> set[str]:
    """What stands in the places that are written."""
    found = parse(path.read_bytes()).found
    return {each.text for each in found if each.place in WRITTEN and each.field == "description"}


@pytest.mark.parametrize("name", two_captions())
def test_texts_that_differ_are_extended_each_by_itself(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(two_captions()[name])
    assert texts(path) == {"Grandma's 80th birthday", "kurz"}
    put(path, "append")
    assert texts(path) == {"Grandma's 80th birthday, a cat", "kurz, a cat"}
    once = path.read_bytes()
    put(path, "append")
    assert path.read_bytes() == once
    put(path, "prepend", "a dog")
    assert texts(path) == {"a dog, Grandma's 80th birthday, a cat", "a dog, kurz, a cat"}


@pytest.mark.parametrize("name", two_captions())
def test_texts_that_gave_way_are_counted(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(two_captions()[name])
    assert [put(path, existing).replaced for existing in ("skip", "append")] == [0, 0]
    path.write_bytes(two_captions()[name])
    assert [put(path, "overwrite").replaced for _ in range(2)] == [2, 0]
    assert put(path, "overwrite", "a dog").replaced == 1
    path.write_bytes(encode("JPEG", exif=described("SONY DSC")))
    assert put(path, "overwrite").replaced == 0


def test_an_empty_place_says_what_was_shown_so_far(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG", exif=described("Grandma")))
    put(path, "append")
    assert texts(path) == {"Grandma, a cat"}  # XMP is new, and read first
    path.write_bytes(commented(b"ASCII\0\0\0Grandma"))
    put(path, "append")
    assert texts(path) == {"Grandma, a cat"}


@pytest.mark.parametrize("existing", ["overwrite", "append", "prepend"])
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF"])
def test_what_is_no_caption_is_kept(tmp_path: Path, format: str, existing: str) -> None:
    comment = b"ASCII\0\0\0Grandma, by Jo"
    made = described("Grandma's 80th birthday")
    made[XP_COMMENT] = "a comment\0".encode("utf-16-le")
    made.get_ifd(0x8769)[USER_COMMENT] = comment
    packet = KURZ.replace(b"</rdf:RDF>", ALT_TEXT + b"</rdf:RDF>")
    path = tmp_path / "photo"
    if format == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[0x010E], tags[700], tags[0x8769] = "Grandma's 80th birthday", packet, {USER_COMMENT: comment}
        tags[XP_COMMENT], tags.tagtype[XP_COMMENT] = "a comment\0".encode("utf-16-le"), 1
        path.write_bytes(encode("TIFF", tiffinfo=tags))
    else:
        path.write_bytes(encode(format, exif=made, xmp=packet, comment=b"in JPEG"))
    put(path, existing)
    assert len(texts(path)) == 1 + (existing != "overwrite")
    with Image.open(path) as image:
        assert image.getexif()[XP_COMMENT] == "a comment\0".encode("utf-16-le")
        assert image.getexif().get_ifd(0x8769)[USER_COMMENT] == comment
        assert ALT_TEXT in (image.info.get("xmp") or image.tag_v2[700])  # type: ignore[attr-defined]
        assert format != "JPEG" or image.info["comment"] == b"in JPEG"


def test_a_translation_alone_is_a_caption_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    french = b"<d:description><rdf:Alt><rdf:li xml:lang='fr'>une f\xc3\xaate</rdf:li></rdf:Alt></d:description>"
    path.write_bytes(encode("JPEG", xmp=XMP % french))
    assert read_caption(str(path)) == "une fête"
    put(path, "append")
    assert [found.text for found in parse(path.read_bytes()).found if found.text] == ["une fête, a cat"] * 2 + [
        "une fête"
    ]


def test_a_caption_in_an_attribute_is_read_and_left(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG", xmp=(XMP % b"").replace(b"xmlns:d=", b"d:description='Grandma' xmlns:d=")))
    assert not Metadata().wants(str(path))
    before = path.read_bytes()
    with pytest.raises(ImageError, match="as an attribute; left as it is"):
        put(path, "append")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "default",
    [
        *sorted(CAMERA_DEFAULTS), "OLYMPUS DIGITAL CAMERA         ", "SONY  DSC", " \t", "\0 \0",
        "File written by Adobe Photoshop\xae 4.0",
        "DCIM\\100MEDIA\\DJI_0001.JPG", "<Digimax i5, Samsung #1>", "<KENOX S1050  / Samsung S1050>",
        "Oplus_16908288", "oplus_32", "Optimized by JPEGmini 3.14.2.84235 0x5b2f9d10", "Processed with VSCO 6.3",
        "CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90\n", "Compressed by jpeg-recompress v2.2.0",
        "filter: 0; fileterIntensity: 0.0; filterMask: 0;", "filter: 0; \nfilterMask: 0; \nmodule: photo;delta:null; \n"
        "hw-remosaic: false;touch: (-1.0, -1.0);sceneMode: 8;AI_Scene: (-1, -1);albedo:  ;brp_del_th: 0.0000,0.0000;",
    ],
)  # fmt: skip
def test_what_a_camera_writes_is_no_caption(tmp_path: Path, default: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG", exif=described(default)))
    assert read_caption(str(path)) == ""
    assert Metadata().wants(str(path))
    put(path, "append")
    assert texts(path) == {"a cat"}


def test_what_a_person_writes_is_a_caption() -> None:
    for text in (
        "Olympus digital camera, my first", "my SAMSUNG", "Scanner", "mon", "burst", "❤️", "?", "DCIM", "<3",
        "Rome_2019", "my_dog: rex; my_cat: tom", "Photographed with Helios 44.2", "Screenshot of my game",
        "Oplus", "Optimized by Anna", "Processed by Anna 12.5.2019", "Created by Anna 3.14",
        "Created with love 2.5.19", "Converted with GIMP 2.10 for grandma", "Creator: Anna", "ISO: 400; Roll: 3",
        "Place: Rome; Who: anna", "note_1: 3", "left: Anna; right: Bob; myDog: Rex",
    ):  # fmt: skip
        assert words(text) == text
    # How Huawei's phones name what they did to a photo, and what means something elsewhere.
    assert words("mon", "HUAWEI") == words("dav", "Honor") == ""
    assert words("Mon", "HUAWEI") == "Mon"
    assert parse(encode("JPEG", exif=described("mon"))).caption == "mon"
    huawei = described("mon")
    huawei[0x010F] = "HUAWEI"
    assert parse(encode("JPEG", exif=huawei)).caption == ""
    # Copied by a photo manager into a place where cameras do not write.
    assert parse(jpeg_with(human(b"SONY DSC"))).caption == ""


@pytest.mark.parametrize(
    ("comment", "caption"),
    [
        (b"ASCII\0\0\0Grandma's 80th\0\0\0", "Grandma's 80th"),
        (b"ASCII\0\0\0Gro\xdfmutter", "Großmutter"),
        (b"\0" * 8 + "Großmutter".encode(), "Großmutter"),
        (b"UNICODE\0" + "Großmutter".encode("utf-16-le"), "Großmutter"),
        (b"UNICODE\0" + "Großmutter".encode("utf-16-be"), "Großmutter"),
        (b"UNICODE\0" + "\ufeff猫がいる".encode("utf-16-be"), "猫がいる"),
        (b"JIS\0\0\0\0\0" + "猫".encode("iso2022_jp"), "猫"),
        (b"ASCII\0\0\0            ", ""),
        (b"ASCII\0\0\0Screenshot", ""),
        (b'ASCII\0\0\0{"mirror":false,"sensor_type":"rear"}', ""),
        (bytes(range(200)), ""),
        (b"\0" * 8 + b"\1\2\3ab\4\5", ""),
        (b"ASC", ""),
        (b"", ""),
    ],
)
def test_user_comments_are_captions_where_they_are_text(comment: bytes, caption: str) -> None:
    assert parse(commented(comment)).caption == caption


def test_what_is_added_leaves_the_bytes_of_a_text_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for old in ("Großmutter".encode("cp1252"), "猫が".encode("shift_jis"), b"\x81\x8d", "Großmutter".encode()):
        path.write_bytes(encode("JPEG", exif=described(old)))
        put(path, "append")
        assert old + b", a cat\0" in path.read_bytes()
        put(path, "overwrite", "ein Hündchen")
        assert "ein Hündchen\0".encode() in path.read_bytes()
    path.write_bytes(encode("JPEG", exif=described(b"Gro\xdfmutter")))
    with pytest.raises(ImageError, match="an encoding that cannot hold the new one"):
        put(path, "append", "猫")
    assert decode_text(b"\xff\xfe\x81\x8d")[1] == "latin-1"


@pytest.mark.parametrize("data", ['<?xml version="1.0"?><OME/>', "ImageJ=1.53t\nimages=3", '{"shape": [3, 4]}'])
def test_the_data_of_programs_is_not_a_caption_to_change(tmp_path: Path, data: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(encode("TIFF", exif=described(data)))
    before = path.read_bytes()
    assert not Metadata().wants(str(path))
    for existing in ("overwrite", "append", "prepend"):
        with pytest.raises(ImageError, match="holds a program's data; left as it is"):
            put(path, existing)
    assert path.read_bytes() == before


def test_white_space_and_line_ends_survive(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG", exif=described("Grandma\r\n80 years")))
    put(path, "append")
    assert texts(path) == {"Grandma\r\n80 years, a cat"}
    path.write_bytes(encode("JPEG", exif=described("Grandma\x01")))
    with pytest.raises(ImageError, match="a character that XMP cannot hold"):
        put(path, "append")


@pytest.mark.parametrize("name", files())
def test_rewriting_leaves_the_same_bytes_and_no_growth(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(files()[name])
    seen: dict[str, bytes] = {}
    captions = ("a cat", "a dog", "a much longer caption of a man with a dog", "ox", "eine Hündin")
    for _ in range(3):
        for text in captions:
            put(path, "overwrite", text)
            assert path.read_bytes() == seen.setdefault(text, path.read_bytes())
    assert max(map(len, seen.values())) - min(map(len, seen.values())) < 3 * len(captions[2]) + 8
