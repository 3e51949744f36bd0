"""JPEG files, after ITU-T T.81 annex B and part 3 of the XMP specification."""

from __future__ import annotations

import struct
from typing import ClassVar

from capcli.outputs.metadata import photoshop, tiff, xmp
from capcli.outputs.metadata.container import EXIF_START, XMP_START, BlockKind, Container
from capcli.outputs.metadata.errors import MetadataError

PHOTOSHOP_START = b"Photoshop 3.0\0"
LARGEST_SEGMENT = 65533  # bytes of payload; the length field of 16 bits counts itself too


class Jpeg(Container):
    """Hold a JPEG file: its segments up to the first scan, and the rest, to copy.

    signatures: marker and beginning of the payload for each kind of block.
    """

    added = (tiff, xmp)
    signatures: ClassVar[dict[BlockKind, tuple[int, bytes]]] = {
        tiff: (0xE1, EXIF_START),
        xmp: (0xE1, XMP_START),
        photoshop: (0xED, PHOTOSHOP_START),
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.segments: list[tuple[int, bytes]] = []  # (marker, whole segment with its marker and length)
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
        for index, (marker, piece) in enumerate(self.segments):
            payload = piece.lstrip(b"\xff")[3:]
            for kind, (expected, beginning) in self.signatures.items():
                if marker == expected and payload.startswith(beginning):
                    self.blocks[index] = kind, payload[len(beginning) :]
            # An MPF index gives byte positions of further pictures, which would no longer be true.
            if marker == 0xE2 and payload.startswith(b"MPF\0"):
                self.refusal = (
                    "several pictures in one JPEG (MPF); captions cannot be written into it, but with --xmp beside it"
                )
        self.continued = self.join_resources()

    def join_resources(self) -> list[int]:
        """Join Photoshop resources continued over segments into the first of these.

        Returns the other segments' indices; empty if each block is complete.
        """
        indices = [index for index, (kind, _) in self.blocks.items() if kind is photoshop]
        try:
            for index in indices:
                photoshop.resources(self.blocks[index][1])
        except MetadataError:
            whole = b"".join(self.blocks.pop(index)[1] for index in indices)
            self.blocks[indices[0]] = photoshop, whole
            return indices[1:]
        return []

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        pieces = [piece for _, piece in self.segments]
        for index, block in changed.items():
            kind = self.blocks[index][0]
            pieces[index] = self.segment(kind, block) if block else b""
            if kind is photoshop:
                for other in self.continued:
                    pieces[other] = b""
        front = 1 if self.segments and self.segments[0][0] == 0xE0 else 0  # JFIF has to be the first segment
        after_exif = max((index + 1 for index, (kind, _) in self.blocks.items() if kind is tiff), default=front)
        if xmp in added:
            pieces.insert(after_exif, self.segment(xmp, added[xmp]))
        if tiff in added:
            pieces.insert(front, self.segment(tiff, added[tiff]))
        return b"\xff\xd8" + b"".join(pieces) + self.rest

    def segment(self, kind: BlockKind, block: bytes) -> bytes:
        """Return a block's segment, or several for long Photoshop resources.

        Raises MetadataError for any other block too long for one segment.
        """
        marker, beginning = self.signatures[kind]
        room = LARGEST_SEGMENT - len(beginning)
        if len(block) > room and kind is not photoshop:
            raise MetadataError("no room for a caption in its EXIF or XMP block")
        parts = [beginning + block[i : i + room] for i in range(0, len(block), room)]
        return b"".join(struct.pack(">BBH", 0xFF, marker, len(part) + 2) + part for part in parts)
