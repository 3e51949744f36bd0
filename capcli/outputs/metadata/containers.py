"""The files that hold the blocks, of which the compressed pixels and every other block are copied byte for byte.

Sources: JPEG ITU-T T.81 annex B, PNG third edition, WebP container specification, XMP specification part 3; PNG's raw
profiles are ImageMagick's, as ExifTool reads them.
"""

from __future__ import annotations

import functools
import io
import re
import struct
import zlib
from typing import ClassVar, Protocol

from PIL import UnidentifiedImageError

from capcli.images.decode import open_image
from capcli.outputs.metadata import iptc, photoshop, tiff, xmp
from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import PLACES, WRITTEN, Change, Found, decode, words

EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
PHOTOSHOP_START = b"Photoshop 3.0\0"
LARGEST_SEGMENT = 65533  # bytes in a JPEG segment, of which the length field counts two more
LARGEST_PACKET = 1 << 24  # bytes of XMP that are unpacked
RAW_ENDINGS = tuple(".3fr .arw .cr2 .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .pef .raw .rw2 .sr2 .srf .srw".split())
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_XMP, PNG_DESCRIPTION = b"XML:com.adobe.xmp", b"Description"  # keywords
RAW_PROFILE = re.compile(rb"\n(.*)\n *\d+\n([\dA-Fa-f\s]*)\0*")  # name, number of bytes, digits
PNG_RAW = [b"Raw profile type " + name for name in (b"exif", b"APP1", b"xmp", b"iptc", b"8bim")]
WEBP_EXIF, WEBP_XMP, WEBP_ALPHA = 0x08, 0x04, 0x10  # flags of a VP8X chunk


class Kind(Protocol):
    """What knows one kind of metadata block: a module, most of them."""

    def captions(self, block: bytes, /) -> list[Found]:
        """Return the texts in a block. Raises MetadataError."""

    def with_caption(self, block: bytes, change: Change, /) -> bytes:
        """Return a block, or a new one in place of an empty one, with its texts changed; the same bytes where nothing
        changes. Raises MetadataError."""


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


class Container:
    """A parsed image file. blocks: number of the segment or chunk → its kind and what it holds; added: kinds of blocks
    that a file without them gets; refusal: why it can take no caption."""

    added: tuple[Kind, ...] = ()
    refusal = ""

    def __init__(self, content: bytes) -> None:
        """Raises MetadataError."""
        self.content = content
        self.blocks: dict[int, tuple[Kind, bytes]] = {}

    @functools.cached_property
    def found(self) -> list[Found]:
        """All texts, in the order of texts.PLACES. Raises MetadataError."""
        found = [text for kind, block in self.blocks.values() for text in kind.captions(block)]
        return sorted(found, key=lambda text: PLACES.index(text.place))

    @functools.cached_property
    def maker(self) -> str:
        """Who made the camera. Raises MetadataError."""
        makers = [tiff.read_tag(block, tiff.MAKE) for kind, block in self.blocks.values() if kind is tiff]
        return decode(makers[0])[0] if makers else ""

    def words(self, text: str) -> str:
        """Return the text if it is somebody's words and not the camera's. Raises MetadataError."""
        return words(text, self.maker)

    @property
    def caption(self) -> str:
        """What photo managers would show; empty if there is nothing. Raises MetadataError."""
        return next(filter(None, (self.words(text) for _, text in self.found)), "")

    def with_caption(self, change: Change) -> bytes:
        """Return the file with each of its texts changed by itself, and with the texts that it lacks added: the same
        bytes where nothing changes. Raises MetadataError."""
        if self.refusal:
            raise MetadataError(self.refusal)
        changed = {place: kind.with_caption(block, change) for place, (kind, block) in self.blocks.items()}
        changed = {place: block for place, block in changed.items() if block != self.blocks[place][1]}
        there = [kind for kind, _ in self.blocks.values()]
        added = {kind: kind.with_caption(b"", change) for kind in self.added if kind not in there}
        return self.assembled(changed, added) if changed or added else self.content

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other blocks. Raises MetadataError."""
        raise NotImplementedError


class Jpeg(Container):
    """Segments up to the first scan; what follows is copied."""

    added = (tiff, xmp)
    starts: ClassVar[dict[Kind, tuple[int, bytes]]] = {
        tiff: (0xE1, EXIF_START),
        xmp: (0xE1, XMP_START),
        photoshop: (0xED, PHOTOSHOP_START),
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.segments: list[tuple[int, bytes]] = []  # marker, segment with its marker and length
        position = 2
        while True:
            start = position
            while content[position : position + 1] == b"\xff":
                position += 1
            if position == start or position + 3 > len(content):
                raise MetadataError("a damaged JPEG")
            marker = content[position]
            if marker == 0xDA:  # start of scan
                break
            end = position + 1 + int.from_bytes(content[position + 1 : position + 3], "big")
            if marker in (0xD8, 0xD9) or end < position + 3 or end > len(content):
                raise MetadataError("a damaged JPEG")
            self.segments.append((marker, content[start:end]))
            position = end
        self.rest = content[start:]
        for place, (marker, piece) in enumerate(self.segments):
            payload = piece.lstrip(b"\xff")[3:]
            for kind, (expected, beginning) in self.starts.items():
                if marker == expected and payload.startswith(beginning):
                    self.blocks[place] = kind, payload[len(beginning) :]
            if marker == 0xE2 and payload.startswith(b"MPF\0"):  # an index that counts bytes from the first picture
                self.refusal = "several pictures in one JPEG (MPF); captions cannot be written into it"
        self.continued = self.join_resources()

    def join_resources(self) -> list[int]:
        """Make one block of Photoshop's resources where they go on from one segment to the next; the numbers of the
        segments after the first."""
        places = [place for place, (kind, _) in self.blocks.items() if kind is photoshop]
        try:
            for place in places:
                photoshop.resources(self.blocks[place][1])
        except MetadataError:
            whole = b"".join(self.blocks.pop(place)[1] for place in places)
            self.blocks[places[0]] = photoshop, whole
            return places[1:]
        return []

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other blocks. Raises MetadataError."""
        pieces = [piece for _, piece in self.segments]
        for place, block in changed.items():
            kind = self.blocks[place][0]
            pieces[place] = self.segment(kind, block)
            if kind is photoshop:
                for other in self.continued:
                    pieces[other] = b""
        front = 1 if self.segments and self.segments[0][0] == 0xE0 else 0  # JFIF wants to be first
        after_exif = max((place + 1 for place, (kind, _) in self.blocks.items() if kind is tiff), default=front)
        if xmp in added:
            pieces.insert(after_exif, self.segment(xmp, added[xmp]))
        if tiff in added:
            pieces.insert(front, self.segment(tiff, added[tiff]))
        return b"\xff\xd8" + b"".join(pieces) + self.rest

    def segment(self, kind: Kind, block: bytes) -> bytes:
        """Return the segment for a block; for Photoshop's resources as many as they need. Raises MetadataError if it is
        too long to be one."""
        marker, beginning = self.starts[kind]
        room = LARGEST_SEGMENT - len(beginning)
        if len(block) > room and kind is not photoshop:
            raise MetadataError("no room for a caption in its EXIF or XMP block")
        parts = [beginning + block[i : i + room] for i in range(0, len(block), room)]
        return b"".join(struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for part in parts)


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


class WebP(Container):
    """Chunks of a RIFF file."""

    added = (tiff, xmp)

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        (size,) = unpack("<I", content, 4)
        if size + 8 > len(content):
            raise MetadataError("a damaged WebP")
        self.rest = content[size + 8 :]
        self.chunks: list[tuple[bytes, bytes]] = []  # type, data
        position = 12
        while position + 8 <= size + 8:
            kind, length = unpack("<4sI", content, position)
            if position + 8 + length > size + 8:
                raise MetadataError("a damaged WebP")
            self.chunks.append((kind, content[position + 8 : position + 8 + length]))
            position += 8 + length + length % 2
        for place, (kind, data) in enumerate(self.chunks):
            if kind == b"EXIF":
                self.blocks[place] = tiff, data.removeprefix(EXIF_START)
            elif kind == b"XMP ":
                self.blocks[place] = xmp, data

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other blocks, and the extended header that they need. Raises MetadataError."""
        chunks = list(self.chunks)
        for place, block in changed.items():
            kind, data = chunks[place]
            chunks[place] = kind, (EXIF_START if data.startswith(EXIF_START) else b"") + block
        # EXIF goes before XMP, and both behind the pixels.
        if tiff in added:
            place = min((place for place, (kind, _) in self.blocks.items() if kind is xmp), default=len(chunks))
            chunks.insert(place, (b"EXIF", added[tiff]))
        if xmp in added:
            chunks.append((b"XMP ", added[xmp]))
        header = (b"VP8X", self.extended_header())
        chunks = [header, *(chunks[1:] if chunks[0][0] == b"VP8X" else chunks)]
        body = b"WEBP" + b"".join(
            kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
        )
        return b"RIFF" + struct.pack("<I", len(body)) + body + self.rest

    def extended_header(self) -> bytes:
        """Return the data of the VP8X chunk that a file with EXIF and XMP begins with. Raises MetadataError."""
        if not self.chunks or self.chunks[0][0] not in (b"VP8X", b"VP8 ", b"VP8L"):
            raise MetadataError("a damaged WebP")
        kind, data = self.chunks[0]
        if kind == b"VP8X":
            header = bytearray(data)
            if len(header) < 10:
                raise MetadataError("a damaged WebP")
        else:
            width, height, flags = webp_size(kind, data)
            header = bytearray(struct.pack("<I", flags) + (width - 1).to_bytes(3, "little"))
            header += (height - 1).to_bytes(3, "little")
        header[0] |= WEBP_EXIF | WEBP_XMP
        return bytes(header)


class Tiff(Container):
    """The file itself is what EXIF blocks are made of; captions are those of the first page."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.blocks[0] = tiff, content
        self.added = () if tiff.read_tag(content, tiff.XMP) else (xmp,)

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other fields. Raises MetadataError."""
        content = changed.get(0, self.content)
        return tiff.set_fields(content, {tiff.XMP: tiff.Field(tiff.BYTE, added[xmp])}) if added else content


def parse(content: bytes, name: str = "") -> Container:
    """Raises MetadataError for files that are damaged or cannot take a caption. name: of the file."""
    if content.startswith(b"\xff\xd8\xff"):
        return Jpeg(content)
    if content.startswith(PNG_SIGNATURE):
        return Png(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return WebP(content)
    # Raw files of cameras are TIFF too, but some of their makers count on where the directory lies.
    if content.startswith((b"II*\0", b"MM\0*")) and content[8:10] != b"CR" and not name.lower().endswith(RAW_ENDINGS):
        return Tiff(content)
    if not content:
        raise MetadataError("the file is empty")
    if not is_picture(content, name):
        raise MetadataError("not an image in a format that can be read")
    raise MetadataError("captions can be written into JPEG, PNG, WebP and TIFF files only")


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


def webp_size(kind: bytes, data: bytes) -> tuple[int, int, int]:
    """Width, height in pixels and VP8X flags of a simple WebP's only frame. Raises MetadataError."""
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in unpack("<HH", data, 6))
        if width and height:
            return width, height, 0
    if kind == b"VP8L" and data[:1] == b"\x2f":
        (bits,) = unpack("<I", data, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, WEBP_ALPHA if bits >> 28 & 1 else 0
    raise MetadataError("a damaged WebP")


def is_picture(content: bytes, name: str) -> bool:
    """Return whether a file could be captioned at all, whatever could be written into it."""
    try:
        open_image(io.BytesIO(content), name).close()
    except UnidentifiedImageError:
        return False
    except Exception:  # a picture that is damaged, too large, or needs an extra package
        return True
    return True
