"""TIFF structures, which Exif blocks are made of: TIFF 6.0, Exif 2.32."""

from __future__ import annotations

import struct

from capcli.metadata.errors import MetadataError, unpack

IMAGE_DESCRIPTION, XMP_TAG = 0x010E, 0x02BC
ASCII, BYTE = 2, 1  # TIFF field types
EMPTY_TIFF = b"II*\0" + struct.pack("<IHI", 8, 0, 0)


def as_ascii(text: str) -> tuple[int, bytes]:
    """A TIFF field of type ASCII; readers take it for UTF-8."""
    return ASCII, text.encode() + b"\0"


def directory(tiff: bytes) -> tuple[str, list[bytes], bytes]:
    """Byte order, entries (12 bytes each) and the offset of the next directory, of a TIFF structure's first one."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        raise MetadataError("damaged EXIF")
    (offset,) = unpack(order + "I", tiff, 4)
    (count,) = unpack(order + "H", tiff, offset)
    end = offset + 2 + 12 * count
    if end + 4 > len(tiff):
        raise MetadataError("damaged EXIF")
    return order, [tiff[i : i + 12] for i in range(offset + 2, end, 12)], tiff[end : end + 4]


def read_tag(tiff: bytes, tag: int) -> bytes:
    """A field of type ASCII or BYTE in the first directory; empty if it is not there. Raises MetadataError."""
    order, entries, _ = directory(tiff)
    for entry in entries:
        number, kind, count = struct.unpack_from(order + "HHI", entry)
        if number == tag and kind in (ASCII, BYTE, 7):
            if count <= 4:
                return entry[8 : 8 + count]
            (offset,) = struct.unpack_from(order + "I", entry, 8)
            if offset + count > len(tiff):
                raise MetadataError("damaged EXIF")
            return tiff[offset : offset + count]
    return b""


def set_tags(tiff: bytes, tags: dict[int, tuple[int, bytes]]) -> bytes:
    """A TIFF structure with fields of its first directory set: tag → (type, value).

    Values and a new directory are appended and the header turned to it, so nothing moves that is there: other offsets
    stay right, those in makers' notes included, of which nobody knows where they are. Raises MetadataError.
    """
    order, entries, following = directory(tiff)
    entries = [e for e in entries if struct.unpack_from(order + "H", e)[0] not in tags]
    body = bytearray(tiff)
    for tag, (kind, value) in tags.items():
        if len(value) <= 4:
            place = value.ljust(4, b"\0")
        else:
            body += b"\0" * (len(body) % 2)  # offsets are to be even
            place = struct.pack(order + "I", len(body))
            body += value
        entries.append(struct.pack(order + "HHI", tag, kind, len(value)) + place)
    body += b"\0" * (len(body) % 2)
    if len(body) + 12 * len(entries) >= 1 << 32:
        raise MetadataError("too large")
    body[4:8] = struct.pack(order + "I", len(body))
    entries.sort(key=lambda e: struct.unpack_from(order + "H", e)[0])
    return bytes(body) + struct.pack(order + "H", len(entries)) + b"".join(entries) + following
