"""The files that hold the blocks, of which the compressed pixels and every other block are copied byte for byte.

Sources: JPEG ITU-T T.81 annex B, PNG third edition, WebP container specification, XMP specification part 3.
"""

from __future__ import annotations

import struct
import zlib

from capcli.metadata.errors import MetadataError, unpack
from capcli.metadata.tiff import BYTE, EMPTY_TIFF, IMAGE_DESCRIPTION, XMP_TAG, as_ascii, read_tag, set_tags
from capcli.metadata.xmp import read_xmp, write_xmp

EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"
LARGEST_SEGMENT = 65533  # bytes in a JPEG segment, of which the length field counts two more
LARGEST_PACKET = 1 << 24  # bytes of XMP that are unpacked
RAW_ENDINGS = tuple(".3fr .arw .cr2 .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .pef .raw .rw2 .sr2 .srf .srw".split())
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_XMP, PNG_DESCRIPTION = b"XML:com.adobe.xmp", b"Description"
WEBP_EXIF, WEBP_XMP, WEBP_ALPHA = 0x08, 0x04, 0x10  # flags of a VP8X chunk


class Container:
    """A parsed image file. exif: TIFF structure or None; xmp: packet or None; description: PNG's own."""

    exif: bytes | None = None
    xmp: bytes | None = None
    description = ""

    @property
    def caption(self) -> str:
        """What photo managers would show, looked for in XMP first; empty if there is nothing."""
        found = read_xmp(self.xmp) if self.xmp else ""
        found = found or self.description
        if not found and self.exif:
            found = read_tag(self.exif, IMAGE_DESCRIPTION).split(b"\0")[0].decode("utf-8", "replace").strip()
        return found

    def with_caption(self, text: str) -> bytes:
        """The file with another caption. Raises MetadataError."""
        raise NotImplementedError


class Jpeg(Container):
    """Segments up to the first scan; what follows is copied."""

    def __init__(self, content: bytes) -> None:
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
        payloads = [segment.lstrip(b"\xff")[3:] for _, segment in self.segments]
        exif = [i for i, p in enumerate(payloads) if self.segments[i][0] == 0xE1 and p.startswith(EXIF_START)]
        xmp = [i for i, p in enumerate(payloads) if self.segments[i][0] == 0xE1 and p.startswith(XMP_START)]
        if len(exif) > 1 or len(xmp) > 1:
            raise MetadataError("several EXIF or XMP blocks; captions cannot be written into such JPEGs")
        self.several_pictures = any(
            marker == 0xE2 and payload.startswith(b"MPF\0")
            for (marker, _), payload in zip(self.segments, payloads, strict=True)
        )
        self.exif_at, self.xmp_at = (found[0] if found else None for found in (exif, xmp))
        if self.exif_at is not None:
            self.exif = payloads[self.exif_at][len(EXIF_START) :]
        if self.xmp_at is not None:
            self.xmp = payloads[self.xmp_at][len(XMP_START) :]

    def with_caption(self, text: str) -> bytes:
        """EXIF and XMP. Raises MetadataError."""
        if self.several_pictures:  # the index of the other pictures counts bytes from the first one
            raise MetadataError("several pictures in one JPEG (MPF); captions cannot be written into it")
        exif = segment(0xE1, EXIF_START + set_tags(self.exif or EMPTY_TIFF, {IMAGE_DESCRIPTION: as_ascii(text)}))
        xmp = segment(0xE1, XMP_START + write_xmp(self.xmp, text))
        pieces = [piece for _, piece in self.segments]
        if self.xmp_at is not None:
            pieces[self.xmp_at] = xmp
        if self.exif_at is not None:
            pieces[self.exif_at] = exif
        front = 1 if self.segments and self.segments[0][0] == 0xE0 else 0  # JFIF wants to be first
        after_exif = front if self.exif_at is None else self.exif_at + 1
        if self.xmp_at is None:
            pieces.insert(after_exif, xmp)
        if self.exif_at is None:
            pieces.insert(front, exif)
        return b"\xff\xd8" + b"".join(pieces) + self.rest


class Png(Container):
    """Chunks up to the end of the file."""

    def __init__(self, content: bytes) -> None:
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
        for kind, piece in self.chunks:
            data = piece[8:-4]
            if kind == b"eXIf":
                self.exif = data.removeprefix(EXIF_START)
            elif kind in (b"tEXt", b"zTXt", b"iTXt"):
                keyword = data.split(b"\0")[0]
                if keyword == PNG_XMP:
                    self.xmp = png_text(kind, data)
                elif keyword == PNG_DESCRIPTION:
                    codec = "utf-8" if kind == b"iTXt" else "latin-1"
                    self.description = png_text(kind, data).decode(codec, "replace").strip()

    def with_caption(self, text: str) -> bytes:
        """XMP and Description, and ImageDescription where there is EXIF. Raises MetadataError."""
        chunks = [
            (kind, piece)
            for kind, piece in self.chunks
            if not (kind in (b"tEXt", b"zTXt", b"iTXt") and piece[8:].split(b"\0")[0] in (PNG_XMP, PNG_DESCRIPTION))
        ]
        if self.exif is not None:
            exif = chunk(b"eXIf", set_tags(self.exif, {IMAGE_DESCRIPTION: as_ascii(text)}))
            chunks = [(kind, exif if kind == b"eXIf" else piece) for kind, piece in chunks]
        pieces = [piece for _, piece in chunks]
        pixels = [kind for kind, _ in chunks].index(b"IDAT")
        for keyword, value in ((PNG_DESCRIPTION, text.encode()), (PNG_XMP, write_xmp(self.xmp, text))):
            # iTXt: keyword, not compressed, no language, no translated keyword
            pieces.insert(pixels, chunk(b"iTXt", keyword + b"\0\0\0\0\0" + value))
        return PNG_SIGNATURE + b"".join(pieces) + self.rest


class WebP(Container):
    """Chunks of a RIFF file."""

    def __init__(self, content: bytes) -> None:
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
        for kind, data in self.chunks:
            if kind == b"EXIF":
                self.exif = data.removeprefix(EXIF_START)
            elif kind == b"XMP ":
                self.xmp = data

    def with_caption(self, text: str) -> bytes:
        """EXIF and XMP, with the extended header that they need. Raises MetadataError."""
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
        chunks = [(b"VP8X", bytes(header))]
        chunks += [(kind, data) for kind, data in self.chunks if kind not in (b"VP8X", b"EXIF", b"XMP ")]
        chunks.append((b"EXIF", set_tags(self.exif or EMPTY_TIFF, {IMAGE_DESCRIPTION: as_ascii(text)})))
        chunks.append((b"XMP ", write_xmp(self.xmp, text)))
        body = b"WEBP" + b"".join(
            kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
        )
        return b"RIFF" + struct.pack("<I", len(body)) + body + self.rest


class Tiff(Container):
    """The file itself is what EXIF blocks are made of."""

    def __init__(self, content: bytes) -> None:
        self.exif = content
        self.xmp = read_tag(content, XMP_TAG) or None

    def with_caption(self, text: str) -> bytes:
        """Two more entries in the first page's directory. Raises MetadataError."""
        assert self.exif is not None
        return set_tags(self.exif, {IMAGE_DESCRIPTION: as_ascii(text), XMP_TAG: (BYTE, write_xmp(self.xmp, text))})


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
    raise MetadataError("captions can be written into JPEG, PNG, WebP and TIFF files only")


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG segment. Raises MetadataError if it is too long to be one."""
    if len(payload) > LARGEST_SEGMENT:
        raise MetadataError("no room for a caption in its EXIF or XMP block")
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_text(kind: bytes, data: bytes) -> bytes:
    """The text of a tEXt, zTXt or iTXt chunk. Raises MetadataError."""
    text = data.partition(b"\0")[2]
    compressed = kind == b"zTXt"
    if kind == b"zTXt":
        text = text[1:]
    elif kind == b"iTXt":
        compressed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not compressed:
        return text
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(text, LARGEST_PACKET)
    except zlib.error:
        raise MetadataError("damaged metadata") from None
    if unpacker.unconsumed_tail:
        raise MetadataError("more metadata than can be read")
    return text


def webp_size(kind: bytes, data: bytes) -> tuple[int, int, int]:
    """Width, height in pixels and VP8X flags of a simple WebP's only frame. Raises MetadataError."""
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = unpack("<HH", data, 6)
        return width & 0x3FFF, height & 0x3FFF, 0
    if kind == b"VP8L" and data[:1] == b"\x2f":
        (bits,) = unpack("<I", data, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, WEBP_ALPHA if bits >> 28 & 1 else 0
    raise MetadataError("a damaged WebP")
