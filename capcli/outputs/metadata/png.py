"""PNG files: PNG third edition, XMP specification part 3; raw profiles are ImageMagick's, as ExifTool reads them."""

from __future__ import annotations

import re
import struct
import zlib
from typing import ClassVar

from capcli.outputs.metadata import iptc, photoshop, tiff, xmp
from capcli.outputs.metadata.container import EXIF_START, XMP_START, Container, Kind
from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import WRITTEN, Change, Found, decode

LARGEST_PACKET = 1 << 24  # bytes of XMP that are unpacked
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_XMP, PNG_DESCRIPTION = b"XML:com.adobe.xmp", b"Description"  # keywords
RAW_PROFILE = re.compile(rb"\n(.*)\n *\d+\n([\dA-Fa-f\s]*)\0*")  # name, number of bytes, digits
PNG_RAW = [b"Raw profile type " + name for name in (b"exif", b"APP1", b"xmp", b"iptc", b"8bim")]


class PlainText:
    """A PNG's own text, in UTF-8."""

    def __init__(self, place: str) -> None:
        """place: of texts.PLACES."""
        self.place = place

    def captions(self, block: bytes) -> list[Found]:
        """Return the text."""
        return [Found(self.place, decode(block)[0])]

    def with_caption(self, block: bytes, change: Change) -> bytes:
        """Return the text after the change."""
        old = decode(block)[0]
        new = change(old) if self.place in WRITTEN else old
        return block if new == old else new.encode()


DESCRIPTION, TRANSLATION = PlainText("PNG"), PlainText("translation")


class Png(Container):
    """Chunks up to the end of the file."""

    added = (DESCRIPTION, xmp)
    keywords: ClassVar[dict[Kind, bytes]] = {DESCRIPTION: PNG_DESCRIPTION, xmp: PNG_XMP}

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.chunks: list[tuple[bytes, bytes]] = []  # type, chunk with its length and checksum
        position = len(PNG_SIGNATURE)
        while True:
            length, kind = unpack(">I4s", content, position)
            end = position + 12 + length
            if end > len(content):
                raise MetadataError("a damaged PNG")
            self.chunks.append((kind, content[position:end]))
            position = end
            if kind == b"IEND":
                break
        if b"IDAT" not in (kind for kind, _ in self.chunks):
            raise MetadataError("a damaged PNG")
        self.rest = content[position:]
        self.beginnings: dict[int, bytes] = {}  # number of a raw profile's chunk → what stands before its block
        for place, (kind, piece) in enumerate(self.chunks):
            data = piece[8:-4]
            keyword = data.split(b"\0")[0] if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
            if kind == b"eXIf":
                self.blocks[place] = tiff, data.removeprefix(EXIF_START)
            elif keyword == PNG_XMP:
                self.blocks[place] = xmp, png_text(kind, data)[1]
            elif keyword == PNG_DESCRIPTION:
                language, text = png_text(kind, data)
                is_default = language.split(b"\0")[0].lower() in (b"", b"x-default")
                self.blocks[place] = DESCRIPTION if is_default else TRANSLATION, text
            elif keyword in PNG_RAW and (found := raw_block(png_text(kind, data)[1])):
                self.beginnings[place] = found[0]
                self.blocks[place] = found[1:]

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other blocks."""
        pieces = [piece for _, piece in self.chunks]
        for place, block in changed.items():
            kind, piece = self.chunks[place]
            if kind == b"eXIf":
                pieces[place] = chunk(kind, block)
                continue
            keyword = piece[8:-4].split(b"\0")[0]
            language, text = png_text(kind, piece[8:-4])
            if place in self.beginnings:
                packed = zlib.compress(raw_profile(text, self.beginnings[place] + block))
                pieces[place] = chunk(b"zTXt", keyword + b"\0\0" + packed)
            else:
                pieces[place] = international_text(keyword, block, language)
        pixels = [kind for kind, _ in self.chunks].index(b"IDAT")
        for block_kind, keyword in self.keywords.items():
            if block_kind in added:
                pieces.insert(pixels, international_text(keyword, added[block_kind]))
        return PNG_SIGNATURE + b"".join(pieces) + self.rest


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def international_text(keyword: bytes, text: bytes, language: bytes = b"\0\0") -> bytes:
    """A PNG's iTXt chunk, not compressed. text: UTF-8; language: its tag, and the keyword in it, each ending in NUL."""
    return chunk(b"iTXt", keyword + b"\0\0\0" + language + text)


def png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """The language, as international_text takes it, and the text of a tEXt, zTXt or iTXt chunk. Raises
    MetadataError."""
    text = data.partition(b"\0")[2]
    language = b"\0\0"
    compressed = kind == b"zTXt"
    if kind == b"zTXt":
        text = text[1:]
    elif kind == b"iTXt":
        compressed = text[:1] == b"\1"
        tag, _, text = text[2:].partition(b"\0")
        keyword, _, text = text.partition(b"\0")
        language = tag + b"\0" + keyword + b"\0"
    return language, unpacked(text) if compressed else text


def unpacked(text: bytes) -> bytes:
    """What zlib packed. Raises MetadataError."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(text, LARGEST_PACKET)
    except zlib.error:
        raise MetadataError("damaged metadata") from None
    if unpacker.unconsumed_tail:
        raise MetadataError("more metadata than can be read")
    return text


def raw_block(text: bytes) -> tuple[bytes, Kind, bytes] | None:
    """What a raw profile's hexadecimal digits stand for: what comes before the block, its kind, the block. None for
    what no caption is in. Raises MetadataError."""
    if (found := RAW_PROFILE.fullmatch(text)) is None:
        raise MetadataError("damaged metadata")
    try:
        raw = bytes.fromhex(found[2].decode())
    except ValueError:
        raise MetadataError("damaged metadata") from None
    kinds: list[tuple[Kind, bytes]] = [(tiff, EXIF_START), (xmp, XMP_START)]
    for kind, beginning in kinds:
        if raw.startswith(beginning):
            return beginning, kind, raw[len(beginning) :]
    kinds = [(tiff, b"II*\0"), (tiff, b"MM\0*"), (photoshop, b"8BIM"), (iptc, b"\x1c"), (xmp, b"<")]
    return next(((b"", kind, raw) for kind, beginning in kinds if raw.startswith(beginning)), None)


def raw_profile(old: bytes, raw: bytes) -> bytes:
    """The text of a raw profile of the same name as the old text's."""
    digits = raw.hex().encode()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    return b"\n".join([b"", old.split(b"\n")[1], b"%8d" % len(raw), *lines, b""])
