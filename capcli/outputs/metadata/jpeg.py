"""JPEG files: ITU-T T.81 annex B, XMP specification part 3."""

from __future__ import annotations

import struct
from typing import ClassVar

from capcli.outputs.metadata import photoshop, tiff, xmp
from capcli.outputs.metadata.container import EXIF_START, XMP_START, Container, Kind
from capcli.outputs.metadata.errors import MetadataError

PHOTOSHOP_START = b"Photoshop 3.0\0"
LARGEST_SEGMENT = 65533  # bytes in a JPEG segment, of which the length field counts two more


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
