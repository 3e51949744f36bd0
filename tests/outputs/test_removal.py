"""Whose words: what capcli writes is signed, replaced by `own` unless a person changed it, and taken out again."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import exiftool
import pytest
from fakes import Found
from photo_files import KURZ, all_formats, block, encode, files, human, two_captions
from PIL import Image

from capcli.outputs.metadata import Metadata, read_image
from capcli.outputs.metadata.png import chunk
from capcli.outputs.metadata.record import Record, without_ours
from capcli.outputs.ownership import Entry, digest_of, signature
from capcli.outputs.removal import LOST, STAYS, Removal, Removed
from capcli.outputs.sidecars import Sidecars
from capcli.outputs.written import Written
from capcli.outputs.xmp_sidecars import XmpSidecars
from capcli.results import ImageError

BY = signature("bundled", "1234abcd")
PLAIN_PNG = files()["plain.png"]
FIELDS = ("description", "alt", "keywords")
UMLAUT = {f"umlaut-{name}": content for name, content in all_formats(block((2, 120, "Größe".encode()))).items()}
SAMPLES = {
    **files(),
    **{f"iptc-{name}": content for name, content in all_formats(human()).items()},
    **{f"two-{name}": content for name, content in two_captions().items()},
    **UMLAUT,
}


def said(path: Path, text: str = "a cät on a sofa", *keywords: str, by: str = BY) -> Any:
    return Found(str(path), text, keywords=keywords or ("cat", "sofa"), by=by)


def take_out(path: Path, written: Written | None = None, dry_run: bool = False) -> list[Removed]:
    wrong: list[ImageError] = []
    removed = list(Removal(written, dry_run=dry_run).of_image(str(path), wrong))
    assert wrong == []
    return removed


@pytest.mark.parametrize("existing", ["skip", "append", "prepend", "overwrite"])
@pytest.mark.parametrize("name", SAMPLES)
def test_what_was_written_is_taken_out(tmp_path: Path, name: str, existing: str) -> None:
    path, before = tmp_path / name, SAMPLES[name]
    path.write_bytes(before)
    shown = read_image(str(path)).shown
    sink = Metadata(existing, fields=FIELDS)
    assert sink.wants(str(path)) is True
    sink.write(said(path))
    assert Record.of(read_image(str(path))).as_text()
    assert not take_out(path, dry_run=True)[0].notes or existing == "overwrite"
    (removed,) = take_out(path)
    if existing == "overwrite" and removed.notes:
        assert removed.notes == [LOST.format("description")]
        return
    assert read_image(str(path)).shown == shown
    assert removed.exact
    assert path.read_bytes() == before
    assert take_out(path) == []


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"packed iTXt"])
@pytest.mark.parametrize(("text", "exact"), [("Größe", True), ("Tom’s 日本", False), ("My cat", True)])
def test_a_png_s_text_keeps_its_form(tmp_path: Path, kind: bytes, text: str, exact: bool) -> None:
    """Unless it is UTF-8 where the standard has Latin-1."""
    path, form = tmp_path / "a.png", {b"zTXt": b"\0", b"iTXt": b"\0" * 4, b"packed iTXt": b"\1\0\0\0"}.get(kind, b"")
    raw = text.encode("latin-1" if exact and b"i" not in kind else "utf-8")
    raw = zlib.compress(raw) if kind in (b"zTXt", b"packed iTXt") else raw
    piece = chunk(kind[-4:], b"Description\0" + form + raw)
    path.write_bytes(PLAIN_PNG[:33] + piece + PLAIN_PNG[33:])
    before = path.read_bytes()
    Metadata("append").write(said(path))
    assert read_image(str(path)).caption == f"{text}, a cät on a sofa"
    with Image.open(path) as image:
        assert image.text["Description"] == f"{text}, a cät on a sofa"  # type: ignore[attr-defined]
    (removed,) = take_out(path)
    assert read_image(str(path)).caption == text
    assert removed.exact == (path.read_bytes() == before) == (exact or b"i" in kind)


@pytest.mark.parametrize("name", SAMPLES)
def test_own_renews_what_nobody_has_changed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SAMPLES[name])
    persons = read_image(str(path)).caption
    Metadata("append").write(said(path))
    own = Metadata("own")
    assert own.wants(str(path)) is True
    own.write(said(path, "a dog"))
    assert read_image(str(path)).caption == (f"{persons}, a dog" if persons else "a dog")
    take_out(path)
    assert read_image(str(path)).caption == persons
    if persons:
        assert own.wants(str(path)) is False


@exiftool.needs_exiftool
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "iptc-a.jpg", "iptc-a.tif"])
def test_a_person_s_change_stays(tmp_path: Path, name: str) -> None:
    made = {"a.jpg": "JPEG", "a.png": "PNG", "a.webp": "WEBP", "a.tif": "TIFF"}
    path = tmp_path / name
    path.write_bytes(SAMPLES[name] if name in SAMPLES else encode(made[name]))
    Metadata("append", fields=FIELDS).write(said(path, "a cat"))
    exiftool.write(path, "-XMP-dc:Description=mine", "-XMP-dc:Subject+=Tom")
    own = Metadata("own", fields=("description",))
    assert own.wants(str(path)) is False
    own.write(said(path, "a dog"))
    assert read_image(str(path)).caption == "mine"
    (removed,) = take_out(path)
    assert removed.notes == [STAYS.format("description")]
    found = exiftool.read(path)
    assert found["XMP-dc:Description"] == "mine"
    assert "Tom" in found["XMP-dc:Subject"]
    assert "cat" not in found["XMP-dc:Subject"]
    assert not [tag for tag in found if "CaptionWriter" in tag or "Writer" in tag or "Written" in tag]
    assert "a cat" not in found.get("IFD0:ImageDescription", "")
    assert "a cat" not in found.get("PNG:Description", "")


@exiftool.needs_exiftool
@pytest.mark.parametrize("name", ["iptc-a.jpg", "iptc-a.tif", "all.webp", "compressed.png"])
def test_the_signature_is_where_standards_have_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(SAMPLES[name])
    Metadata("append").write(said(path))
    found = exiftool.read(path)
    assert found["XMP-photoshop:CaptionWriter"] == BY
    if name.startswith("iptc"):
        assert found["IPTC:Writer-Editor"] == BY
    exiftool.write(path, "-XMP-photoshop:CaptionWriter=Grandma")
    Metadata("overwrite").write(said(path, "a dog"))
    assert exiftool.read(path)["XMP-photoshop:CaptionWriter"] == "Grandma"
    take_out(path)
    assert exiftool.read(path)["XMP-photoshop:CaptionWriter"] == "Grandma"


def test_a_person_s_words_are_not_signed(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode("JPEG"))
    Metadata().write(said(path, "a cat"))
    Metadata("own").write(said(path, "My cat Tom", by=""))
    content = path.read_bytes()
    assert b"Tom" in content
    assert b"CaptionWriter" not in content
    assert Metadata("own").wants(str(path)) is False
    assert take_out(path) == []


@pytest.mark.parametrize("adobe", [False, True])
def test_xmp_sidecars_go_and_stay(tmp_path: Path, adobe: bool) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(encode("JPEG"))
    beside = tmp_path / ("a.xmp" if adobe else "a.jpg.xmp")
    for old in (None, KURZ):
        if old:
            beside.write_bytes(old)
        XmpSidecars("append", adobe=adobe, fields=FIELDS).write(said(photo))
        XmpSidecars("own", adobe=adobe, fields=FIELDS).write(said(photo, "a dog", "dog"))
        assert b"a dog" in beside.read_bytes()
        assert [removed.exact for removed in take_out(photo)] == [True]
        assert (beside.read_bytes() if beside.exists() else None) == old


def test_texts_beside_photos_are_known_by_the_cache(tmp_path: Path) -> None:
    written = Written(str(tmp_path / "k.db"))
    photos = [tmp_path / f"{name}.jpg" for name in "abcd"]
    texts = [photo.with_suffix(".txt") for photo in photos]
    for photo in photos:
        photo.write_bytes(encode("JPEG"))
    texts[1].write_bytes(b"My cat Tom.\r\n")
    for photo in photos:
        Sidecars("append", written=written).write(said(photo, "a cat"))
    written.flush()
    texts[2].write_text("mine\n")
    texts[3].unlink()
    own = Sidecars("own", written=written)
    assert [own.wants(str(photo)) for photo in photos] == [True, True, False, True]
    for photo in photos[:3]:
        own.write(said(photo, "a dog"))
    written.flush()
    assert [text.read_text() for text in texts[:3]] == ["a dog\n", "My cat Tom. A dog.\n", "mine\n"]
    assert Sidecars("own").wants(str(photos[0])) is False
    removed = [each for photo in photos for each in take_out(photo, Written(str(tmp_path / "k.db")))]
    assert [(Path(each.path).name, each.exact, each.notes) for each in removed] == [
        ("a.txt", True, []),
        ("b.txt", True, []),
        ("c.txt", False, [STAYS.format("the text")]),
    ]
    assert not texts[0].exists()
    assert texts[1].read_bytes() == b"My cat Tom.\r\n"
    assert texts[2].read_text() == "mine\n"


def test_the_cache_knows_what_was_said(tmp_path: Path) -> None:
    written = Written(str(tmp_path / "k.db"))
    assert written.signature("a.jpg", "a cat") == ""
    assert not (tmp_path / "k.db").exists()
    written.say("a.jpg", "a cat", BY)
    written.flush()
    other = Written(str(tmp_path / "k.db"))
    assert [other.signature(*asked) for asked in (("./a.jpg", "a cat"), ("a.jpg", "a dog"))] == [BY, ""]
    assert other.places("a.jpg") == []


@pytest.mark.parametrize(
    "record",
    ["[]", "{", '{"texts": {"XMP description": [1]}}', '{"texts": {"XMP description": ["x", 5, 2]}}', "[" * 9999],
)
def test_a_damaged_record_is_none(tmp_path: Path, record: str) -> None:
    photo = tmp_path / "a.jpg"
    content = KURZ.replace(
        b"</rdf:RDF>", b"<rdf:Description xmlns:c='urn:capcli:written/1.0/' c:Written='%s'/></rdf:RDF>"
    )
    assert content != KURZ
    photo.write_bytes(encode("JPEG", xmp=content % record.replace('"', "&quot;").encode()))
    assert Metadata("own").wants(str(photo)) is False
    assert without_ours(read_image(str(photo))).changed == ["description"]
    assert read_image(str(photo)).caption == "kurz"


def test_a_signature_fits_into_iptc() -> None:
    assert signature("bundled", "1234abcd") == "capcli bundled 1234abcd"
    assert signature("someone/a-very-long-name-of-ä-model", "1234abcd") == "capcli -name-of-_-model 1234abcd"
    assert len(signature("x" * 99, "1234abcd").encode()) == 32


def test_an_entry_finds_the_earlier_text() -> None:
    first = Entry.of("My cat", "My cat, a cat", None, "My cat")
    assert first.original("My cat, a cat") == "My cat"
    assert first.renewed("My cat, a cat", "a dog", None) == "My cat, a dog"
    lost = Entry.of("My cat", "a dog", None, "My cat")
    assert lost.is_lost
    assert Entry.of("a dog", "a cow", lost, "a dog").is_lost
    camera = Entry.of("SONY DSC", "a cat", None, "")
    assert Entry.read(json.loads(json.dumps(camera.shortened))) == Entry(digest_of("a cat"), 0, 0, "SONY DSC")
