"""PNG files, after PNG third edition and part 3 of the XMP specification.

Raw profiles are ImageMagick's EXIF, XMP and IPTC in a PNG, which ExifTool reads too.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import ClassVar

from capcli.outputs.metadata import iptc, photoshop, tiff, xmp
from capcli.outputs.metadata.container import EXIF_START, XMP_START, BlockKind, Container
from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import WRITTEN, Edit, Found, decode_text

LARGEST_TEXT = 1 << 24  # bytes of a decompressed text
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_XMP, PNG_DESCRIPTION = b"XML:com.adobe.xmp", b"Description"  # keywords
RAW_PROFILE = re.compile(rb"\n(.*)\n *\d+\n([\dA-Fa-f\s]*)\0*")  # its name, number of bytes, and hexadecimal digits
RAW_KEYWORDS = [b"Raw profile type " + name for name in (b"exif", b"APP1", b"xmp", b"iptc", b"8bim")]


class PlainText:
    """Read and write one of PNG's own texts, in UTF-8."""

    def __init__(self, place: str) -> None:
        """Make a kind of block. place: of its text, in texts.PLACES."""
        self.place = place

    def texts(self, block: bytes) -> list[Found]:
        return [Found(self.place, decode_text(block)[0])]

    def with_texts(self, block: bytes, edit: Edit) -> bytes:
        """Return the text, edited if its place is written to."""
        old = decode_text(block)[0]
        new = edit.description(self.place, old) if self.place in WRITTEN else old
        return block if new == old else new.encode()


DESCRIPTION, TRANSLATION = PlainText("PNG"), PlainText("translation")


class Png(Container):
    """Hold a PNG file: its chunks, and what follows, to copy.

    keywords: of added text chunks, by kind of block.
    """

    added = (DESCRIPTION, xmp)
    keywords: ClassVar[dict[BlockKind, bytes]] = {DESCRIPTION: PNG_DESCRIPTION, xmp: PNG_XMP}

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.chunks: list[tuple[bytes, bytes]] = []  # (type, whole chunk with its length and checksum)
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
        self.beginnings: dict[int, bytes] = {}  # bytes before each raw profile's block, by chunk
        for index, (kind, piece) in enumerate(self.chunks):
            data = piece[8:-4]
            keyword = data.split(b"\0")[0] if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
            if kind == b"eXIf":
                self.blocks[index] = tiff, data.removeprefix(EXIF_START)
            elif keyword == PNG_XMP:
                self.blocks[index] = xmp, png_text(kind, data)[1]
            elif keyword == PNG_DESCRIPTION:
                language, text = png_text(kind, data)
                is_default = language.split(b"\0")[0].lower() in (b"", b"x-default")
                self.blocks[index] = DESCRIPTION if is_default else TRANSLATION, text
            elif keyword in RAW_KEYWORDS and (found := raw_block(png_text(kind, data)[1])):
                self.beginnings[index] = found[0]
                self.blocks[index] = found[1:]

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        pieces = [piece for _, piece in self.chunks]
        for index, block in changed.items():
            kind, piece = self.chunks[index]
            if not block or kind == b"eXIf":
                pieces[index] = chunk(kind, block) if block else b""
                continue
            if index in self.beginnings:
                block = raw_profile(png_text(kind, piece[8:-4])[1], self.beginnings[index] + block)
            pieces[index] = with_text(kind, piece[8:-4], block)
        pixels = [kind for kind, _ in self.chunks].index(b"IDAT")
        for block_kind, keyword in self.keywords.items():
            if block_kind in added:
                pieces.insert(pixels, international_text(keyword, added[block_kind]))
        return PNG_SIGNATURE + b"".join(pieces) + self.rest


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk. kind: its type, 4 letters."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def international_text(keyword: bytes, text: bytes, language: bytes = b"\0\0", compressed: bool = False) -> bytes:
    """Return an iTXt chunk.

    keyword: says what the text is.
    text: in UTF-8.
    language: tag, and the keyword translated, each ending in NUL.
    """
    form = b"\1\0" if compressed else b"\0\0"
    return chunk(b"iTXt", keyword + b"\0" + form + language + (zlib.compress(text) if compressed else text))


def with_text(kind: bytes, data: bytes, text: bytes) -> bytes:
    """Return a chunk with another text: in its own form if that can hold it, otherwise as iTXt.

    kind, data: of the old chunk, as for `png_text`.
    text: in UTF-8.
    """
    keyword, _, form = data.partition(b"\0")
    language, old = png_text(kind, data)
    words, (_, codec) = text.decode(), decode_text(old)
    if kind == b"iTXt":
        return international_text(keyword, text, language, form[:1] == b"\1")
    latin = words.encode("latin-1", "replace")  # which tEXt and zTXt are in, though some programs write UTF-8
    if (codec == "utf-8" and not old.isascii()) or decode_text(latin)[0] != words.strip():
        return international_text(keyword, text)
    return chunk(kind, keyword + b"\0" + (b"\0" + zlib.compress(latin) if kind == b"zTXt" else latin))


def png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return a text chunk's language, as for `international_text`, and text.

    kind: tEXt, zTXt or iTXt.
    data: of the chunk.

    Raises MetadataError if it cannot be decompressed.
    """
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
    return language, decompressed(text) if compressed else text


def decompressed(text: bytes) -> bytes:
    """Return a zlib-compressed text. Raises MetadataError, also beyond LARGEST_TEXT bytes."""
    try:
        decompressor = zlib.decompressobj()
        text = decompressor.decompress(text, LARGEST_TEXT)
    except zlib.error:
        raise MetadataError("damaged metadata") from None
    if decompressor.unconsumed_tail:
        raise MetadataError("too much metadata to read")
    return text


def raw_block(text: bytes) -> tuple[bytes, BlockKind, bytes] | None:
    """Return a raw profile's beginning, kind of block and block; None without a caption.

    text: of the chunk, with the block in hexadecimal.

    Raises MetadataError for a damaged profile.
    """
    if (found := RAW_PROFILE.fullmatch(text)) is None:
        raise MetadataError("damaged metadata")
    try:
        raw = bytes.fromhex(found[2].decode())
    except ValueError:
        raise MetadataError("damaged metadata") from None
    kinds: list[tuple[BlockKind, bytes]] = [(tiff, EXIF_START), (xmp, XMP_START)]
    for kind, beginning in kinds:
        if raw.startswith(beginning):
            return beginning, kind, raw[len(beginning) :]
    kinds = [(tiff, b"II*\0"), (tiff, b"MM\0*"), (photoshop, b"8BIM"), (iptc, b"\x1c"), (xmp, b"<")]
    return next(((b"", kind, raw) for kind, beginning in kinds if raw.startswith(beginning)), None)


def raw_profile(old: bytes, raw: bytes) -> bytes:
    """Return a raw profile's text. old: the old one, whose profile name is kept. raw: the new content."""
    digits = raw.hex().encode()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    return b"\n".join([b"", old.split(b"\n")[1], b"%8d" % len(raw), *lines, b""])
