"""TIFF structures, also used for EXIF blocks, after TIFF 6.0 and Exif 3.0."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from capcli.outputs.metadata import iptc, photoshop, xmp
from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import Edit, Found, decode_text, rewrite

IMAGE_DESCRIPTION, MAKE, XMP, IPTC, PHOTOSHOP, EXIF_DIRECTORY = 0x010E, 0x010F, 0x02BC, 0x83BB, 0x8649, 0x8769
USER_COMMENT = 0x9286  # in the Exif directory
BYTE, ASCII, LONG, UNDEFINED, UTF_8 = 1, 2, 4, 7, 129  # field types
SIZES = {BYTE: 1, ASCII: 1, LONG: 4, UNDEFINED: 1, UTF_8: 1}
EMPTY = b"II*\0" + struct.pack("<IHI", 8, 0, 0)
# Marks our appendix; after it come where the first directory was before, and how long the structure was.
APPENDED = b"capcli\0\1"
CHANGED = (IMAGE_DESCRIPTION, XMP, IPTC, PHOTOSHOP)


class Directory(NamedTuple):
    """Hold a directory of a TIFF structure.

    order: of bytes, `<` or `>` as in `struct`.
    start: its position, in bytes.
    entries: one per field, 12 bytes each.
    following: offset of the next directory, 4 bytes.
    """

    order: str
    start: int
    entries: list[bytes]
    following: bytes

    def tag(self, entry: bytes) -> int:
        """Return the number of an entry's field."""
        return int.from_bytes(entry[:2], "little" if self.order == "<" else "big")


class Field(NamedTuple):
    """Hold a field of a directory.

    kind: its type, in SIZES.
    value: its bytes.
    offset: their position in the structure; 0 for a value in the entry itself.
    """

    kind: int
    value: bytes
    offset: int = 0


def directory(tiff: bytes, start: int | None = None) -> Directory:
    """Return a directory of a TIFF structure.

    start: its position, in bytes; None for the first.

    Raises MetadataError for a damaged structure.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        raise MetadataError("damaged EXIF")
    if start is None:
        (start,) = unpack(order + "I", tiff, 4)
    (count,) = unpack(order + "H", tiff, start)
    end = start + 2 + 12 * count
    if end + 4 > len(tiff):
        raise MetadataError("damaged EXIF")
    return Directory(order, start, [tiff[i : i + 12] for i in range(start + 2, end, 12)], tiff[end : end + 4])


def read_field(tiff: bytes, found: Directory, tag: int) -> Field | None:
    """Return a directory's field by its tag; None if it is missing, or has a type that texts never have.

    Raises MetadataError if its value lies outside the structure.
    """
    for entry in found.entries:
        number, kind, count = struct.unpack_from(found.order + "HHI", entry)
        if number == tag and kind in SIZES:
            size = SIZES[kind] * count
            if size <= 4:
                return Field(kind, entry[8 : 8 + size])
            (offset,) = struct.unpack_from(found.order + "I", entry, 8)
            if offset + size > len(tiff):
                raise MetadataError("damaged EXIF")
            return Field(kind, tiff[offset : offset + size], offset)
    return None


def read_tag(tiff: bytes, tag: int) -> bytes:
    """Return the value of a field of the first directory, or b"". Raises MetadataError."""
    found = read_field(tiff, directory(tiff), tag)
    return found.value if found else b""


def texts(tiff: bytes) -> list[Found]:
    """Return a structure's ImageDescription, UserComment, and texts of its XMP, IPTC and Photoshop blocks.

    Raises MetadataError.
    """
    found = [
        Found("EXIF", decode_text(read_tag(tiff, IMAGE_DESCRIPTION).split(b"\0")[0])[0]),
        Found("UserComment", user_comment(tiff)),
    ]
    for tag, block_texts in ((XMP, xmp.texts), (IPTC, iptc.texts), (PHOTOSHOP, photoshop.texts)):
        if block := read_tag(tiff, tag):
            found += block_texts(block)
    return found


def user_comment(tiff: bytes) -> str:
    """Return UserComment's text; "" if it is missing, damaged or not text."""
    try:
        order, *_ = first = directory(tiff)
        pointer = read_field(tiff, first, EXIF_DIRECTORY)
        if pointer is None or pointer.kind != LONG:
            return ""
        (start,) = unpack(order + "I", pointer.value, 0)
        found = read_field(tiff, directory(tiff, start), USER_COMMENT)
    except MetadataError:  # harmless, as a UserComment is never changed
        return ""
    code, raw = (found.value[:8], found.value[8:]) if found else (b"", b"")
    if code == b"UNICODE\0":
        # Some programs write it in the other byte order: zeros give away the upper bytes.
        zeros = raw[::2].count(0) - raw[1::2].count(0)
        text = raw.decode("utf-16-be" if zeros > 0 or (zeros == 0 and order == ">") else "utf-16-le", "replace")
    elif code.rstrip(b"\0") == b"JIS":
        text = raw.decode("iso2022_jp", "replace")
    else:
        text = decode_text(raw)[0]
    text = text.strip("\ufeff\0 \t\r\n")
    is_text = any(map(str.isalpha, text)) and all(c.isprintable() or c in "\t\r\n" for c in text)
    return text if is_text else ""


def with_texts(tiff: bytes, edit: Edit) -> bytes:
    """Return a structure with edited ImageDescription and texts of its blocks.

    tiff: empty for a file without EXIF, which gets a new structure if there is anything to write.

    Raises MetadataError.
    """
    structure = tiff or EMPTY
    found = directory(structure)
    fields: dict[int, Field | None] = {}

    def put(tag: int, old: Field, value: bytes) -> None:
        if value != old.value:
            fields[tag] = Field(old.kind, value + b"\0" * (-len(value) % SIZES[old.kind])) if value else None

    description = read_field(structure, found, IMAGE_DESCRIPTION) or Field(ASCII, b"")
    text, _, more = description.value.partition(b"\0")
    if (new := rewrite(text, edit.description, "EXIF")) != text:
        more = more if more.strip(b"\0") else b""  # a second text after NUL (a copyright, say) is kept
        put(IMAGE_DESCRIPTION, description, new + b"\0" + more if new or more else b"")
    if old := read_field(structure, found, XMP):
        put(XMP, old, xmp.with_texts(old.value, edit))
    digests = {}
    if old := read_field(structure, found, IPTC):
        put(IPTC, old, iptc.with_texts(old.value, edit))
        if after_field := fields.get(IPTC):  # programs differ in whether the digest includes the zeros at the end
            after = after_field.value
            digests = {
                photoshop.digest(trim(old.value)): photoshop.digest(trim(after)) for trim in (bytes, iptc.trimmed)
            }
    if old := read_field(structure, found, PHOTOSHOP):
        put(PHOTOSHOP, old, photoshop.with_texts(old.value, edit, digests))
    if not fields:
        return tiff
    new_structure = set_fields(structure, fields)
    return b"" if new_structure == EMPTY else new_structure


class Appendix(NamedTuple):
    """Hold what was appended to a structure.

    original: the structure before.
    fields: that are in the appendix, by tag.
    """

    original: bytes
    fields: dict[int, Field | None]


def set_fields(tiff: bytes, fields: Mapping[int, Field | None]) -> bytes:
    """Return a TIFF structure with fields, by tag, of its first directory set; None removes one.

    Values and a new directory are appended, and the header points there. Nothing else moves, so other offsets stay
    right, even in makers' notes, which only the makers know. The last appendix is removed first, or the file would grow
    with each caption; if what is left says the same as before the first one, it is again what it was.

    Raises MetadataError.
    """
    found = directory(tiff)
    if last := appendix(tiff, found):
        tiff, fields = last.original, last.fields | dict(fields)
        if is_told_by(tiff, found, fields):
            return tiff
    return append(tiff, found, fields)


def appendix(tiff: bytes, found: Directory) -> Appendix | None:
    """Return what was appended to a structure; None if nothing was, or another program has written here since.

    found: the first directory.
    """
    start = tiff.rfind(APPENDED, 0, found.start)
    if start < 0:
        return None
    first, length = unpack(found.order + "4sI", tiff, start + len(APPENDED))
    fields: dict[int, Field | None] = {}
    for tag in CHANGED:
        old = read_field(tiff, found, tag)
        if old and old.offset > start:
            fields[tag] = old
    original = tiff[:4] + first + tiff[8 : min(length, start)]
    return Appendix(original, fields) if append(original, found, fields) == tiff else None


def is_told_by(original: bytes, found: Directory, fields: Mapping[int, Field | None]) -> bool:
    """Return whether a structure already says what a directory and fields say. Raises MetadataError."""
    first = directory(original)

    def others(each: Directory) -> tuple[list[bytes], bytes]:
        return [entry for entry in each.entries if each.tag(entry) not in CHANGED], each.following

    def said(tag: int, field: Field | None) -> list[object]:
        text, _, more = (field.value if field else b"").partition(b"\0")
        return [decode_text(text)[0], more.strip(b"\0")] if tag == IMAGE_DESCRIPTION else [
            field and field.value.rstrip(b"\0")
        ]  # fmt: skip

    same = all(
        said(tag, fields[tag] if tag in fields else read_field(original, found, tag))
        == said(tag, read_field(original, first, tag))
        for tag in CHANGED
    )
    return same and others(first) == others(found)


def append(tiff: bytes, found: Directory, fields: Mapping[int, Field | None]) -> bytes:
    """Return a whole TIFF structure with values and a new first directory appended, behind what `appendix` reads back.

    found: the old first directory.
    fields: to set, by tag; None removes one.

    Raises MetadataError beyond 4 GiB.
    """
    if len(tiff) >= 1 << 32:
        raise MetadataError("too large")
    order = found.order
    body = bytearray(tiff)
    entries = [entry for entry in found.entries if found.tag(entry) not in fields]
    body += b"\0" * (len(body) % 2) + APPENDED  # offsets have to be even
    body += tiff[4:8] + struct.pack(order + "I", len(tiff))
    for tag, kind, value in sorted((tag, field.kind, field.value) for tag, field in fields.items() if field):
        if len(value) <= 4:
            value_or_offset = value.ljust(4, b"\0")
        else:
            value_or_offset = struct.pack(order + "I", len(body)) if len(body) < 1 << 32 else b""
            body += value + b"\0" * (len(value) % 2)
        entries.append(struct.pack(order + "HHI", tag, kind, len(value) // SIZES[kind]) + value_or_offset)
    if len(body) + 12 * len(entries) >= 1 << 32:
        raise MetadataError("too large")
    body[4:8] = struct.pack(order + "I", len(body))
    entries.sort(key=found.tag)
    return bytes(body) + struct.pack(order + "H", len(entries)) + b"".join(entries) + found.following
