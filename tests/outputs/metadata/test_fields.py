"""Descriptions, alt texts and keywords: in images and beside them, with what a person wrote around them."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import exiftool
import pytest
from exiftool import needs_exiftool
from fakes import Found
from photo_files import (
    KEYWORD,
    XMP,
    big_tiff,
    block,
    encode,
    exif,
    files,
    frames_of,
    human,
    iptc_of,
    jpeg_with,
    tiff_with,
    with_segment,
)

from capcli.outputs.existing import FIELDS
from capcli.outputs.metadata import Metadata, parse, read_image
from capcli.outputs.metadata.iptc import datasets, with_texts
from capcli.outputs.metadata.texts import Edit, ShownTexts, joined
from capcli.outputs.xmp_sidecars import XmpSidecars
from capcli.results import ImageError

ALT = (
    b'<i:AltTextAccessibility xmlns:i="http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"><rdf:Alt>'
    b'<rdf:li xml:lang="x-default">my alt</rdf:li></rdf:Alt></i:AltTextAccessibility>'
)
SUBJECT = b"<d:subject><rdf:Bag><rdf:li>Grandma</rdf:li><rdf:li>Cat</rdf:li></rdf:Bag></d:subject>"
INSIDE = ["plain.jpg", "all.jpg", "plain.png", "text.png", "plain.tif", "big-endian.tif", "lossy.webp", "all.webp"]
BESIDE = ["mpf.jpg", "photo.avif", "photo.heic", "photo.dng", "big.tif", "photo.gif"]
VOLATILE = re.compile(
    "SourceFile|ExifTool:|System:|File:CurrentIPTCDigest|Photoshop:IPTCDigest|IFD0:XPKeywords|"
    "IFD0:(PhotoshopSettings|ApplicationNotes|IPTC-NAA)|RIFF:WebP_Flags|File:(MIMEType|FileType)|XMP-x:XMPToolkit"
)


def caption(sink: Metadata | XmpSidecars, path: Path, text: str = "a cat", *keywords: str) -> None:
    found = Found(str(path), text, keywords=keywords)
    if sink.wants(str(path)):
        sink.write(found)  # type: ignore[arg-type]


def content(name: str) -> bytes:
    """An image of one of the formats that nothing is written into."""
    if name == "mpf.jpg":
        return with_segment(0xE2, b"MPF\0II*\0")
    if name == "photo.dng":
        return encode("TIFF", exif=exif())
    if name == "big.tif":
        return big_tiff("")
    if name == "photo.heic":
        return heic()
    return encode(name.partition(".")[2].upper())


def heic() -> bytes:
    """As much of a HEIC file as says that it is one."""
    return struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize("fields", [(field,) for field in FIELDS] + [FIELDS])
@pytest.mark.parametrize("name", [*INSIDE, "photo.heic"])
def test_the_fields_that_are_asked_for_are_written_and_no_others(
    tmp_path: Path, name: str, fields: tuple[str, ...]
) -> None:
    path = tmp_path / name
    before = content(name) if name in BESIDE else files()[name]
    path.write_bytes(before)
    shown_before = ShownTexts() if name in BESIDE else parse(before).shown
    sink = XmpSidecars("overwrite", fields=fields) if name in BESIDE else Metadata("overwrite", fields=fields)
    for _ in range(2):
        caption(sink, path, "a cat", "cat", "Sofa")
    shown = sink.read(str(path)).shown if isinstance(sink, XmpSidecars) else read_image(str(path)).shown
    assert shown == ShownTexts(
        "a cat" if "description" in fields else shown_before.description,
        "a cat" if "alt" in fields else shown_before.alt,
        ("cat", "Sofa") if "keywords" in fields else shown_before.keywords,
    )
    if name in BESIDE:
        assert path.read_bytes() == before
    else:
        assert frames_of(path.read_bytes()) == frames_of(before)
    again = (Metadata if name not in BESIDE else XmpSidecars)(fields=fields)
    assert not again.wants(str(path))


@needs_exiftool
@pytest.mark.parametrize("name", [*INSIDE, *BESIDE])
def test_exiftool_reads_every_field_and_all_that_a_person_wrote(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content(name) if name in BESIDE else files()[name])
    target = Path(f"{path}.xmp") if name in BESIDE else path
    words = ["-XMP-dc:Title=Eighty", "-XMP-dc:Subject=Grandma", "-XMP-dc:Subject=CAT", "-XMP:Rating=4"]
    words += ["-XMP-dc:Description-fr=Grand-mère", "-XMP-photoshop:City=Hamburg"]
    if name in BESIDE:
        exiftool.write(target, *words)
    else:
        iptc = [] if name.endswith(".webp") else ["-IPTC:City=Hamburg", "-IPTC:Keywords=Grandma", "-IPTC:By-line=Jo"]
        exiftool.write(target, *words, *iptc, "-EXIF:Artist=Jo", "-EXIF:GPSLatitude=53.5", "-EXIF:GPSLatitudeRef=N")
    before, complaints = exiftool.read(target), exiftool.complaints(target)
    image = path.read_bytes()
    sink = (XmpSidecars if name in BESIDE else Metadata)("overwrite", fields=FIELDS)
    caption(sink, path, "a cat & a <dog>", "cat", "dog")
    after = exiftool.read(target)
    assert exiftool.complaints(target) <= complaints
    assert after["XMP-dc:Description"] == "a cat & a <dog>"
    assert after["XMP-iptcCore:AltTextAccessibility"] == "a cat & a <dog>"
    assert after["XMP-dc:Subject"] == "['Grandma', 'CAT', 'dog']"
    if "IPTC:City" in before:
        assert after["IPTC:Keywords"] == "['Grandma', 'cat', 'dog']"
    changed = {tag for tag in before.keys() | after.keys() if before.get(tag) != after.get(tag)}
    ours = {"XMP-dc:Description", "XMP-dc:Subject", "XMP-iptcCore:AltTextAccessibility", "IPTC:Keywords"}
    ours |= {"IFD0:ImageDescription", "PNG:Description"}
    assert {tag for tag in changed if not VOLATILE.match(tag)} <= ours
    assert after["XMP-dc:Title"] == "Eighty"
    if name in BESIDE:
        assert path.read_bytes() == image
    else:
        assert frames_of(path.read_bytes()) == frames_of(image)


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ("skip", ShownTexts("a dog", "my alt", ("Grandma", "Cat", "dog"))),
        ("overwrite", ShownTexts("a dog", "a dog", ("Grandma", "Cat", "dog"))),
        ("append", ShownTexts("a dog", "my alt, a dog", ("Grandma", "Cat", "dog"))),
        ("prepend", ShownTexts("a dog", "a dog, my alt", ("Grandma", "Cat", "dog"))),
    ],
)
def test_a_persons_alt_text_is_treated_as_their_description_and_keywords_are_only_added(
    tmp_path: Path, existing: str, expected: ShownTexts
) -> None:
    inside, beside = tmp_path / "a.jpg", tmp_path / "b.heic"
    inside.write_bytes(encode("JPEG", xmp=XMP % (ALT + SUBJECT)))
    beside.write_bytes(heic())
    Path(f"{beside}.xmp").write_bytes(XMP % (ALT + SUBJECT))
    for sink, path in ((Metadata(existing, fields=FIELDS), inside), (XmpSidecars(existing, fields=FIELDS), beside)):
        for _ in range(2):
            caption(sink, path, "a dog", "cat", "dog", "DOG")
        assert sink.replaced == (existing == "overwrite")
    assert read_image(str(inside)).shown == XmpSidecars().read(str(beside)).shown == expected


def test_an_image_is_done_when_no_field_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG", xmp=XMP % (ALT + SUBJECT)))
    assert Metadata(fields=("description",)).wants(str(path))
    assert not Metadata(fields=("alt",)).wants(str(path))
    assert not Metadata(fields=("alt", "keywords")).wants(str(path))
    assert Metadata(fields=FIELDS).wants(str(path))
    assert not Metadata(fields=FIELDS).has(str(path))
    with pytest.raises(ImageError, match="already holds a caption"):
        Metadata("fail", fields=FIELDS).wants(str(path))
    assert Metadata("fail", fields=("description", "keywords")).wants(str(path))  # keywords do each other no harm
    # What the image says, its sidecar need not say again.
    assert not XmpSidecars(fields=("alt", "keywords")).wants(str(path))
    caption(XmpSidecars(fields=FIELDS), path, "a dog", "dog")
    assert XmpSidecars().read(str(path)).shown == ShownTexts("a dog", "", ("Grandma", "Cat", "dog"))


def test_a_keyword_that_the_image_has_in_another_spelling_comes_into_its_sidecar_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode("JPEG", xmp=XMP % SUBJECT))
    caption(XmpSidecars("overwrite", fields=("description", "keywords")), path, "a cat", "cat")
    assert XmpSidecars().read(str(path)).shown == ShownTexts("a cat", "", ("Grandma", "Cat"))


@pytest.mark.parametrize("content", [jpeg_with(human()), tiff_with(human())])
def test_iptc_keywords_are_added_where_there_is_a_block(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    for _ in range(2):
        caption(Metadata("append", fields=("keywords",)), path, "a cat", "Birthday", "cat")
    before, after = datasets(human()), datasets(iptc_of(path.read_bytes()))
    assert [each.value for each in after if each.key == (2, 25)] == [b"birthday", b"cat"]
    assert [each for each in after if each.value != b"cat"] == before
    assert read_image(str(path)).shown == ShownTexts("Grandma's 80th birthday", "", ("birthday", "cat"))
    path.write_bytes(encode("JPEG"))
    caption(Metadata(fields=("keywords",)), path, "a cat", "cat")
    assert b"Photoshop" not in path.read_bytes()
    assert b"Exif" not in path.read_bytes()  # nor an empty EXIF block


def test_iptc_keywords_keep_their_encoding() -> None:
    edit = Edit(keywords=lambda place, old: joined(old, ["Hütte"]))
    utf_8 = (1, 90, b"\x1b%G")
    assert with_texts(block(KEYWORD), edit) == block(utf_8, KEYWORD, (2, 25, "Hütte".encode()))
    latin = (2, 25, b"K\xe4se")
    assert with_texts(block(latin, (2, 90, b"x")), edit) == block(latin, (2, 25, b"H\xfctte"), (2, 90, b"x"))
    first = block((2, 0, b"\0\2"), (2, 90, b"x"))
    assert with_texts(first, Edit(keywords=lambda place, old: ("cat",))) == block(
        (2, 0, b"\0\2"), (2, 25, b"cat"), (2, 90, b"x")
    )
    assert with_texts(block(KEYWORD), Edit()) == block(KEYWORD)
