"""A DNG file made by hand, since no camera's may be in the repository: a preview, and a little of a sensor's pixels."""

from __future__ import annotations

import io
import struct

from PIL import Image

SHORT, LONG = 3, 4


def dng(picture: Image.Image, orientation: int = 1, preview: bool = True) -> bytes:
    """A file after the DNG specification 1.4: a JPEG of the picture in the first directory, raw pixels in another."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=95)
    shown, sensor = jpeg.getvalue(), bytes(64 * 48 * 2)
    strings = {271: b"Hand\0", 272: b"Made by hand\0", 50708: b"Made by hand\0"}
    first: dict[int, tuple[int, list[int]]] = {
        254: (LONG, [1]), 256: (LONG, [picture.width]), 257: (LONG, [picture.height]), 258: (SHORT, [8, 8, 8]),
        259: (SHORT, [7]), 262: (SHORT, [6]), 273: (LONG, [0]), 274: (SHORT, [orientation]), 277: (SHORT, [3]),
        278: (LONG, [picture.height]), 279: (LONG, [len(shown)]), 330: (LONG, [0]),
    }  # fmt: skip
    raw: dict[int, tuple[int, list[int]]] = {
        254: (LONG, [0]), 256: (LONG, [64]), 257: (LONG, [48]), 258: (SHORT, [16]), 259: (SHORT, [1]),
        262: (SHORT, [32803]), 273: (LONG, [0]), 277: (SHORT, [1]), 278: (LONG, [48]), 279: (LONG, [len(sensor)]),
        33421: (SHORT, [2, 2]),
    }  # fmt: skip
    if not preview:
        shown = b""
        first = {tag: field for tag, field in first.items() if tag in (274, 330)}
    body = bytearray(b"II*\0\0\0\0\0")

    def put(content: bytes) -> int:
        body.extend(b"\0" * (len(body) % 2))
        start = len(body)
        body.extend(content)
        return start

    def directory(fields: dict[int, tuple[int, list[int]]], more: dict[int, tuple[int, bytes]]) -> int:
        entries = {}
        for tag, (kind, values) in fields.items():
            entries[tag] = kind, len(values), struct.pack(f"<{len(values)}{'HI'[kind == LONG]}", *values)
        entries |= {tag: (kind, len(value), value) for tag, (kind, value) in more.items()}
        packed = b"".join(
            struct.pack("<HHI", tag, kind, count)
            + (value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", put(value)))
            for tag, (kind, count, value) in sorted(entries.items())
        )
        return put(struct.pack("<H", len(entries)) + packed + b"\0" * 4)

    raw[273] = LONG, [put(sensor)]
    first[330] = LONG, [directory(raw, {33422: (1, b"\0\1\1\2")})]
    if preview:
        first[273] = LONG, [put(shown)]
    texts = {tag: (2, text) for tag, text in strings.items()}
    start = directory(first, {**texts, 50706: (1, b"\1\4\0\0"), 50707: (1, b"\1\1\0\0")})
    body[4:8] = struct.pack("<I", start)
    return bytes(body)
