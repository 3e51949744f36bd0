"""TIFF structures, which Exif blocks are made of: TIFF 6.0, Exif 3.0."""

from __future__ import annotations

import struct
from typing import NamedTuple

from capcli.outputs.metadata import iptc, photoshop, xmp
from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import Change, Found, decode, rewrite

IMAGE_DESCRIPTION, MAKE, XMP, IPTC, PHOTOSHOP, EXIF_DIRECTORY = 0x010E, 0x010F, 0x02BC, 0x83BB, 0x8649, 0x8769
USER_COMMENT = 0x9286  # in the Exif directory
BYTE, ASCII, LONG, UNDEFINED, UTF_8 = 1, 2, 4, 7, 129  # field types
SIZES = {BYTE: 1, ASCII: 1, LONG: 4, UNDEFINED: 1, UTF_8: 1}
EMPTY = b"II*\0" + struct.pack("<IHI", 8, 0, 0)
APPENDED = b"capcli\0\0"  # stands before what is appended, so that the next time it is taken off again


class Directory(NamedTuple):
    """order: of bytes, as struct names it; start: where the directory lies; entries: of 12 bytes; following: the offset
    of the next directory, in 4 bytes."""

    order: str
    start: int
    entries: list[bytes]
    following: bytes

    def tag(self, entry: bytes) -> int:
        """Return the number of an entry's field."""
        return int.from_bytes(entry[:2], "little" if self.order == "<" else "big")


class Field(NamedTuple):
    """kind: its type, of SIZES; value: its bytes; offset: where they lie, 0 for in the entry itself."""

    kind: int
    value: bytes
    offset: int = 0


def directory(tiff: bytes, start: int | None = None) -> Directory:
    """Return the first directory of a TIFF structure, or that which lies at start. Raises MetadataError."""
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
    """Return a field; None if it is not there, or of a type that no text has. Raises MetadataError."""
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
    """Return the value of a field of the first directory; empty if it is not there. Raises MetadataError."""
    found = read_field(tiff, directory(tiff), tag)
    return found.value if found else b""


def captions(tiff: bytes) -> list[Found]:
    """Return ImageDescription, UserComment, and the texts of the blocks that the structure holds. Raises
    MetadataError."""
    found = [
        Found("EXIF", decode(read_tag(tiff, IMAGE_DESCRIPTION).split(b"\0")[0])[0]),
        Found("UserComment", user_comment(tiff)),
    ]
    for tag, block_captions in ((XMP, xmp.captions), (IPTC, iptc.captions), (PHOTOSHOP, photoshop.captions)):
        if block := read_tag(tiff, tag):
            found += block_captions(block)
    return found


def user_comment(tiff: bytes) -> str:
    """Return what UserComment says; "" if it is not there, or no text that a person would write."""
    try:
        order, *_ = first = directory(tiff)
        pointer = read_field(tiff, first, EXIF_DIRECTORY)
        if pointer is None or pointer.kind != LONG:
            return ""
        (start,) = unpack(order + "I", pointer.value, 0)
        found = read_field(tiff, directory(tiff, start), USER_COMMENT)
    except MetadataError:  # nobody else can read it either, and it is not to be changed
        return ""
    code, raw = (found.value[:8], found.value[8:]) if found else (b"", b"")
    if code == b"UNICODE\0":
        # Some write it in the other order of bytes than the rest: the half with the zeros is the upper one.
        zeros = raw[::2].count(0) - raw[1::2].count(0)
        text = raw.decode("utf-16-be" if zeros > 0 or (zeros == 0 and order == ">") else "utf-16-le", "replace")
    elif code.rstrip(b"\0") == b"JIS":
        text = raw.decode("iso2022_jp", "replace")
    else:
        text = decode(raw)[0]
    text = text.strip("\ufeff\0 \t\r\n")
    is_text = any(map(str.isalpha, text)) and all(c.isprintable() or c in "\t\r\n" for c in text)
    # iPhones mark what they took of their own screen, and phones note their settings in JSON.
    return text if is_text and text != "Screenshot" and not text.startswith("{") else ""


def with_caption(tiff: bytes, change: Change) -> bytes:
    """Return the structure, or a new one in place of an empty one, with another ImageDescription, and with captions
    changed in the blocks that it holds. Raises MetadataError."""
    tiff = tiff or EMPTY
    found = directory(tiff)
    fields: dict[int, Field] = {}

    def put(tag: int, old: Field, value: bytes) -> None:
        if value != old.value:
            fields[tag] = Field(old.kind, value + b"\0" * (-len(value) % SIZES[old.kind]))

    description = read_field(tiff, found, IMAGE_DESCRIPTION) or Field(ASCII, b"")
    text, _, more = description.value.partition(b"\0")
    if (new := rewrite(text, change)) != text:  # what may stand behind it is kept
        put(IMAGE_DESCRIPTION, description, new + b"\0" + (more if more.strip(b"\0") else b""))
    if old := read_field(tiff, found, XMP):
        put(XMP, old, xmp.with_caption(old.value, change))
    digests = {}
    if old := read_field(tiff, found, IPTC):
        put(IPTC, old, iptc.with_caption(old.value, change))
        if IPTC in fields:  # programs differ in whether the digest is that of the zeros at the end too
            after = fields[IPTC].value
            digests = {
                photoshop.digest(trim(old.value)): photoshop.digest(trim(after)) for trim in (bytes, iptc.trimmed)
            }
    if old := read_field(tiff, found, PHOTOSHOP):
        put(PHOTOSHOP, old, photoshop.with_caption(old.value, change, digests))
    return set_fields(tiff, fields) if fields else tiff


def set_fields(tiff: bytes, fields: dict[int, Field]) -> bytes:
    """Return a TIFF structure with fields of its first directory set: tag → field.

    Values and a new directory are appended and the header turned to it, so nothing moves that is there: other offsets
    stay right, those in makers' notes included, of which nobody knows where they are. What was appended here before is
    taken off first, so that a file does not grow with each new caption. Raises MetadataError.
    """
    found = directory(tiff)
    start = tiff.rfind(APPENDED, 0, found.start)
    before: dict[int, Field] = {}
    for tag in (IMAGE_DESCRIPTION, XMP, IPTC, PHOTOSHOP):
        old = read_field(tiff, found, tag)
        if old and old.offset > start:
            before[tag] = old
    if start >= 0 and append(tiff[:start], found, before) == tiff:  # nobody has written here since
        tiff, fields = tiff[:start], before | fields
    return append(tiff, found, fields)


def append(tiff: bytes, found: Directory, fields: dict[int, Field]) -> bytes:
    """Return a TIFF structure with fields and a directory appended, and the header turned to it. Raises
    MetadataError."""
    order = found.order
    body = bytearray(tiff)
    entries = [entry for entry in found.entries if found.tag(entry) not in fields]
    body += b"\0" * (len(body) % 2) + APPENDED  # offsets are to be even
    for tag, (kind, value, _) in sorted(fields.items()):
        if len(value) <= 4:
            place = value.ljust(4, b"\0")
        else:
            place = struct.pack(order + "I", len(body)) if len(body) < 1 << 32 else b""
            body += value + b"\0" * (len(value) % 2)
        entries.append(struct.pack(order + "HHI", tag, kind, len(value) // SIZES[kind]) + place)
    if len(body) + 12 * len(entries) >= 1 << 32:
        raise MetadataError("too large")
    body[4:8] = struct.pack(order + "I", len(body))
    entries.sort(key=found.tag)
    return bytes(body) + struct.pack(order + "H", len(entries)) + b"".join(entries) + found.following
