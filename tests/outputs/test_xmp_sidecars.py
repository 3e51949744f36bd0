"""XMP sidecars: what programs wrote into theirs is still there, byte for byte, with a caption beside it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from exiftool import needs_exiftool, read
from fakes import Found
from photo_files import XMP, big_tiff, encode, exif, with_segment

from capcli.outputs.metadata import xmp
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import Edit, joined
from capcli.outputs.originals import HARD_LINKED, LEADS_OUT, READ_ONLY
from capcli.outputs.template import Template
from capcli.outputs.xmp_sidecars import XmpSidecars
from capcli.results import ImageError

SAMPLES = Path(__file__).parent / "xmp"
PROGRAMS = ("digikam", "darktable", "lightroom")
TITLE = f"{{{xmp.DC}}}title"
LI = f"{{{xmp.RDF}}}li"
LANG = "{http://www.w3.org/XML/1998/namespace}lang"


def caption(image: Path, text: str = "a cat", **settings: object) -> bytes:
    """The sidecar of an image that a run has captioned."""
    sidecars = XmpSidecars(**settings)  # type: ignore[arg-type]
    if sidecars.wants(str(image)):
        sidecars.write(Found(str(image), text))  # type: ignore[arg-type]
    return Path(sidecars.sidecar(str(image))).read_bytes()


def languages(packet: bytes, local: str = "description", namespace: str = xmp.DC) -> dict[str, str]:
    """What ElementTree, another reader, finds in a property of the photo by language; each language once."""
    (description, *more) = ElementTree.fromstring(packet).findall(f".//{{{xmp.RDF}}}RDF/*/{{{namespace}}}{local}")
    assert not more
    items = [(item.get(LANG, ""), item.text or "") for item in description.iter(LI)]
    assert len(dict(items)) == len(items)
    return dict(items)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode("JPEG"))
    return path


def test_a_photo_gets_a_sidecar_as_programs_name_it(photo: Path) -> None:
    assert languages(caption(photo, template=Template("{caption},\n <photo> & more"))) == {
        "x-default": "a cat, <photo> & more"
    }
    assert languages(caption(photo, adobe=True)) == {"x-default": "a cat"}
    assert sorted(os.listdir(photo.parent)) == ["photo.jpg", "photo.jpg.xmp", "photo.xmp"]
    assert photo.read_bytes() == encode("JPEG")


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_program_wrote_stays_byte_for_byte(photo: Path, program: str) -> None:
    before = (SAMPLES / f"{program}.xmp").read_bytes()
    sidecar = Path(f"{photo}.xmp")
    sidecar.write_bytes(before)
    after = caption(photo, existing="overwrite")
    if program == "darktable":  # it has a description, whose text is all that changes
        assert after == before.replace("Großmutters 80. Geburtstag".encode(), b"a cat")
        assert languages(after) == {"x-default": "a cat", "en": "Grandma's 80th birthday"}
    else:
        place = before.index(b"</rdf:RDF>")
        assert after.startswith(before[:place])
        assert after.endswith(before[place:])
        assert languages(after) == {"x-default": "a cat"}
    assert caption(photo, existing="overwrite") == after
    assert languages(caption(photo, "a dog", existing="append"))["x-default"] == "a cat, a dog"
    sidecar.write_bytes(before)
    kept = caption(photo)
    assert (kept == before) is (program == "darktable")  # a person's description is not touched unasked


@needs_exiftool
@pytest.mark.parametrize("program", PROGRAMS)
def test_exiftool_reads_all_that_was_there_and_the_caption(photo: Path, program: str) -> None:
    sidecar = Path(f"{photo}.xmp")
    sidecar.write_bytes((SAMPLES / f"{program}.xmp").read_bytes())
    before = read(sidecar)
    caption(photo, existing="overwrite")
    after = read(sidecar)
    assert after.pop("XMP-dc:Description") == "a cat"
    volatile = re.compile("System:|ExifTool:|SourceFile|XMP-dc:Description$")
    assert {k: v for k, v in after.items() if not volatile.match(k)} == {
        k: v for k, v in before.items() if not volatile.match(k)
    }
    assert len(after) > 15


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<d:description><rdf:Alt><rdf:li xml:lang='fr'>un chat</rdf:li></rdf:Alt></d:description>",
         b"<d:description><rdf:Alt><rdf:li xml:lang=\"x-default\">a &lt;cat&gt;</rdf:li>"
         b"<rdf:li xml:lang='fr'>un chat</rdf:li></rdf:Alt></d:description>"),
        (b"<d:description> <rdf:Alt> <!-- x --> <rdf:li xml:lang='x-default' a=\"1>2\"> old </rdf:li></rdf:Alt>"
         b"</d:description>",
         b"<d:description> <rdf:Alt> <!-- x --> <rdf:li xml:lang='x-default' a=\"1>2\">a &lt;cat&gt;</rdf:li></rdf:Alt>"
         b"</d:description>"),
        (b"<d:subject><rdf:Seq><rdf:li>K\xc3\xa4se</rdf:li> </rdf:Seq></d:subject><d:description/>",
         b"<d:subject><rdf:Seq><rdf:li>K\xc3\xa4se</rdf:li> <rdf:li>cat</rdf:li></rdf:Seq></d:subject>"),
    ],
)  # fmt: skip
def test_only_the_text_changes_where_there_is_one(old: bytes, new: bytes) -> None:
    after = xmp.with_texts(
        XMP % old,
        Edit(lambda place, text: "a <cat>", keywords=lambda place, there: joined(there, ["cat"] if there else [])),
    )
    before, _, rest = (XMP % new).partition(b"</rdf:RDF>")
    if b"<d:description/>" in old:  # nothing to be kept in it
        assert new in after
        assert languages(after) == {"x-default": "a <cat>"}
    else:
        assert after == before + b"</rdf:RDF>" + rest


@pytest.mark.parametrize(
    "old",
    [
        b"<d:subject/>",
        b"<d:subject>Grandma</d:subject>",
        b"<d:subject><rdf:Bag/></d:subject>",
        b"<d:subject><rdf:Bag><rdf:li>Grandma</rdf:li></rdf:Bag></d:subject><d:subject><rdf:Bag><rdf:li>cake</rdf:li>"
        b"</rdf:Bag></d:subject>",
        b"",
    ],
)
def test_keywords_are_added_whatever_the_list_looks_like(old: bytes) -> None:
    there = tuple(word for word in ("Grandma", "cake") if word.encode() in old)
    edit = Edit(keywords=lambda place, found: joined(found, ["CAKE", "cat", "grandma"]))
    after = xmp.with_texts(XMP % old, edit)
    expected = [
        *there,
        *(word for word in ("CAKE", "cat", "grandma") if word.casefold() not in map(str.casefold, there)),
    ]
    assert [found.text for found in xmp.texts(after) if found.field == "keywords"] == expected
    assert [e.text for e in ElementTree.fromstring(after.strip()).iter(LI)] == expected
    assert xmp.with_texts(after, edit) == after
    assert after.startswith(XMP[: XMP.index(b"%s")])


def test_a_description_of_something_in_the_photo_is_another() -> None:
    packet = (SAMPLES / "digikam.xmp").read_bytes()
    assert b"her smile" in packet
    assert not any(found.text for found in xmp.texts(packet) if found.field == "description")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"just text", "damaged XMP"),
        (b"<a/>", "damaged XMP"),
        (b"\n", "damaged XMP"),
        ((SAMPLES / "darktable.xmp").read_bytes()[:-20], "damaged XMP"),
        ((SAMPLES / "darktable.xmp").read_text("utf-8").replace("UTF-8", "UTF-16").encode("utf-16"), "damaged XMP"),
        ((SAMPLES / "darktable.xmp").read_text("utf-8").replace("UTF-8", "ISO-8859-1").encode("ascii", "replace"),
         "its XMP is in ISO-8859-1, not in UTF-8; left as it is"),
        (b'<!DOCTYPE a [<!ENTITY b "c">]><a/>', "damaged XMP"),
        (XMP.replace(b'xmp:Rating="5"', b'xmlns:d="http://purl.org/dc/elements/1.1/" d:description="old"') % b"",
         "holds the caption as an attribute"),
    ],
)  # fmt: skip
def test_a_sidecar_that_cannot_be_parsed_is_never_replaced(photo: Path, content: bytes, reason: str) -> None:
    sidecar = Path(f"{photo}.xmp")
    sidecar.write_bytes(content)
    sidecars = XmpSidecars("overwrite")
    with pytest.raises(ImageError, match=re.escape(f"{sidecar}: ") + f".*{reason}") as error:
        sidecars.write(Found(str(photo), "a cat"))  # type: ignore[arg-type]
    assert str(sidecar) not in error.value.kind
    if "attribute" not in reason:
        with pytest.raises(ImageError, match=reason):
            sidecars.wants(str(photo))
    assert sidecar.read_bytes() == content


def test_a_byte_order_mark_moves_nothing() -> None:
    before = b"\xef\xbb\xbf" + (SAMPLES / "darktable.xmp").read_bytes()
    after = xmp.with_texts(before, Edit(lambda place, old: "ein Käse"))
    assert after == before.replace("Großmutters 80. Geburtstag".encode(), "ein Käse".encode())


def test_what_the_image_says_itself_is_not_hidden_unasked(tmp_path: Path) -> None:
    described = exif()
    described[0x010E] = "Grandma's birthday"
    mpf = with_segment(0xE2, b"MPF\0II*\0")
    named = with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % b"<d:description>mine</d:description>")
    files = {
        "a.jpg": encode("JPEG", exif=described),
        "b.avif": encode("AVIF", exif=described),
        "c.nef": encode("TIFF", exif=described),
        "d.jpg": mpf[:2] + named[2 : 2 + len(named) - len(encode("JPEG"))] + mpf[2:],
        "e.avif": encode("AVIF", xmp=XMP % b"<d:description>mine</d:description>"),
        "f.tif": big_tiff("mine"),
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        sidecars = XmpSidecars()
        assert not sidecars.wants(str(path)), name
        assert sidecars.has(str(path))
        assert sidecars.where(str(path)) == "its metadata"
        assert sidecars.target(str(path)) == Path(f"{path}.xmp")  # for programs
        with pytest.raises(ImageError, match="its metadata holds a caption already"):
            XmpSidecars("fail").wants(str(path))
        old = "mine" if name in ("d.jpg", "e.avif", "f.tif") else "Grandma's birthday"
        assert languages(caption(path, existing="append")) == {"x-default": f"{old}, a cat"}
        assert languages(caption(path, existing="append")) == {"x-default": f"{old}, a cat"}
        assert path.read_bytes() == content
        Path(f"{path}.xmp").unlink()
        assert languages(caption(path, existing="overwrite")) == {"x-default": "a cat"}


def test_every_format_gets_one(tmp_path: Path) -> None:
    files = {
        "a.jpg": with_segment(0xE2, b"MPF\0II*\0"),
        "b.avif": encode("AVIF"),
        "c.nef": encode("TIFF"),
        "d.tif": big_tiff(""),
        "e.gif": encode("GIF"),
        "f.cr3": b"\0\0\0\x18ftypcrx whatever follows",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert languages(caption(path)) == {"x-default": "a cat"}
        assert path.read_bytes() == content
        assert not XmpSidecars().wants(str(path))


def test_two_images_of_one_name_share_no_sidecar(photo: Path) -> None:
    raw = photo.with_suffix(".nef")
    raw.write_bytes(encode("TIFF"))
    both = XmpSidecars()
    assert both.wants(str(photo))
    assert both.wants(str(raw))
    adobe = XmpSidecars(adobe=True)
    assert adobe.wants(str(photo))
    with pytest.raises(ImageError, match=r"it would share its sidecar .*photo\.xmp with .*photo\.jpg"):
        adobe.wants(str(raw))
    with pytest.raises(ImageError, match="an image from stdin cannot have a sidecar"):
        adobe.wants("-")


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are of another kind here")
def test_a_sidecar_keeps_its_permissions_and_its_link_but_not_its_time(photo: Path) -> None:
    (photo.parent / "all").mkdir()
    real, link = photo.parent / "all" / "photo.xmp", Path(f"{photo}.xmp")
    real.write_bytes((SAMPLES / "digikam.xmp").read_bytes())
    real.chmod(0o640)
    os.utime(real, (1_000_000_000, 1_000_000_000))
    link.symlink_to(real)
    caption(photo)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert real.stat().st_mtime > 1_000_000_001  # or photo managers would not look at it again
    assert languages(real.read_bytes()) == {"x-default": "a cat"}


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are of another kind here")
def test_a_sidecar_that_is_not_ours_to_write_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    sample, outside = (SAMPLES / "digikam.xmp").read_bytes(), tmp_path / "outside.xmp"
    for path in (folder / "read-only.jpg.xmp", folder / "hard-linked.jpg.xmp", outside):
        path.write_bytes(sample)
    (folder / "read-only.jpg.xmp").chmod(0o444)
    os.link(folder / "hard-linked.jpg.xmp", tmp_path / "other.xmp")
    (folder / "linked.jpg.xmp").symlink_to(outside)
    (folder / "folder.jpg.xmp").mkdir()
    for name, reason in (("read-only", READ_ONLY), ("hard-linked", HARD_LINKED), ("linked", LEADS_OUT)):
        image = folder / f"{name}.jpg"
        image.write_bytes(encode("JPEG"))
        sidecars = XmpSidecars(folders=[str(folder)])
        for attempt in (sidecars.wants, lambda path: sidecars.write(Found(path, "a cat"))):  # type: ignore[arg-type] # noqa: B023
            with pytest.raises(ImageError, match=re.escape(f"{name}.jpg.xmp: {reason}")):
                attempt(str(image))
        assert Path(f"{image}.xmp").read_bytes() == sample
    with pytest.raises(ImageError, match="not a regular file"):
        XmpSidecars().wants(str(folder / "folder.jpg"))
    assert XmpSidecars(folders=[str(tmp_path)]).wants(str(folder / "linked.jpg"))


def test_texts_that_gave_way_are_counted(photo: Path) -> None:
    Path(f"{photo}.xmp").write_bytes((SAMPLES / "darktable.xmp").read_bytes())
    for existing, replaced in (("append", 0), ("overwrite", 1)):
        sidecars = XmpSidecars(existing)
        for _ in range(2):
            sidecars.write(Found(str(photo), "a cat"))  # type: ignore[arg-type]
        assert sidecars.replaced == replaced


def test_a_description_that_xml_cannot_hold_is_refused(photo: Path) -> None:
    with pytest.raises(ImageError, match="a character that XMP cannot hold"):
        XmpSidecars(template=Template("\b{caption}")).write(Found(str(photo), "a cat"))  # type: ignore[arg-type]
    assert os.listdir(photo.parent) == ["photo.jpg"]
    with pytest.raises(MetadataError):
        xmp.with_texts(b"", Edit(lambda place, old: "\0"))
