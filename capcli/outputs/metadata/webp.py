"""WebP files, after the WebP container specification and part 3 of the XMP specification."""

from __future__ import annotations

import struct

from capcli.outputs.metadata import tiff, xmp
from capcli.outputs.metadata.container import EXIF_START, BlockKind, Container
from capcli.outputs.metadata.errors import MetadataError, unpack

WEBP_EXIF, WEBP_XMP, WEBP_ALPHA = 0x08, 0x04, 0x10  # flags of a VP8X chunk


class WebP(Container):
    """Hold a WebP file: its RIFF chunks, and what follows, to copy."""

    added = (tiff, xmp)

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        (size,) = unpack("<I", content, 4)
        if size + 8 > len(content):
            raise MetadataError("a damaged WebP")
        self.rest = content[size + 8 :]
        self.chunks: list[tuple[bytes, bytes]] = []  # (type, data)
        position = 12
        while position + 8 <= size + 8:
            kind, length = unpack("<4sI", content, position)
            if position + 8 + length > size + 8:
                raise MetadataError("a damaged WebP")
            self.chunks.append((kind, content[position + 8 : position + 8 + length]))
            position += 8 + length + length % 2
        for index, (kind, data) in enumerate(self.chunks):
            if kind == b"EXIF":
                self.blocks[index] = tiff, data.removeprefix(EXIF_START)
            elif kind == b"XMP ":
                self.blocks[index] = xmp, data

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        """Return the file with other blocks and their extended header; see `Container.assembled`."""
        chunks = list(self.chunks)
        for index, block in changed.items():
            kind, data = chunks[index]
            chunks[index] = kind, block and (EXIF_START if data.startswith(EXIF_START) else b"") + block
        # EXIF comes before XMP, and both come after the pixels.
        if tiff in added:
            before_xmp = min((index for index, (kind, _) in self.blocks.items() if kind is xmp), default=len(chunks))
            chunks.insert(before_xmp, (b"EXIF", added[tiff]))
        if xmp in added:
            chunks.append((b"XMP ", added[xmp]))
        chunks = [(kind, data) for kind, data in chunks if data or kind not in (b"EXIF", b"XMP ")]
        header = (b"VP8X", self.extended_header({kind for kind, _ in chunks}))
        chunks = [header, *(chunks[1:] if chunks[0][0] == b"VP8X" else chunks)]
        if len(chunks) == 2 and chunks[1][0] in (b"VP8 ", b"VP8L"):  # nothing is left for which it was extended
            chunks = chunks[1:]
        body = b"WEBP" + b"".join(
            kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks
        )
        return b"RIFF" + struct.pack("<I", len(body)) + body + self.rest

    def extended_header(self, kinds: set[bytes]) -> bytes:
        """Return the data of the VP8X chunk that a file with EXIF or XMP begins with. Raises MetadataError.

        kinds: of its chunks.
        """
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
        header[0] &= ~(WEBP_EXIF | WEBP_XMP)
        header[0] |= (WEBP_EXIF if b"EXIF" in kinds else 0) | (WEBP_XMP if b"XMP " in kinds else 0)
        return bytes(header)


def webp_size(kind: bytes, data: bytes) -> tuple[int, int, int]:
    """Return width and height in pixels, and VP8X flags, from the chunk of a simple WebP's only frame.

    Raises MetadataError.
    """
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in unpack("<HH", data, 6))
        if width and height:
            return width, height, 0
    if kind == b"VP8L" and data[:1] == b"\x2f":
        (bits,) = unpack("<I", data, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, WEBP_ALPHA if bits >> 28 & 1 else 0
    raise MetadataError("a damaged WebP")
