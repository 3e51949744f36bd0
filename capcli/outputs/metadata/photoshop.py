"""Photoshop's image resources, which hold IPTC blocks, after the Adobe Photoshop File Formats Specification."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import NamedTuple

from capcli.outputs.metadata import iptc
from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import Edit, Found

IPTC, IPTC_DIGEST = 0x0404, 0x0425
SIGNATURES = (b"8BIM", b"PHUT", b"AgHg", b"DCSR", b"MeSa")


class Resource(NamedTuple):
    """Hold an image resource.

    number: its meaning.
    head: its signature, number and name.
    whole: all of it with size and padding, as in the block.
    """

    number: int
    head: bytes
    value: bytes
    whole: bytes

    def holding(self, value: bytes) -> Resource:
        """Return the resource with this value."""
        if value == self.value:
            return self
        whole = self.head + struct.pack(">I", len(value)) + value + b"\0" * (len(value) % 2)
        return Resource(self.number, self.head, value, whole)


def resources(block: bytes) -> tuple[list[Resource], bytes]:
    """Return a block's resources, and the zeros after them. Raises MetadataError."""
    found = []
    position = 0
    while block[position : position + 4] in SIGNATURES:
        number, name_length = unpack(">HB", block, position + 4)
        # The name and its length are padded to an even number of bytes.
        sized = position + 7 + name_length + (name_length + 1) % 2
        (size,) = unpack(">I", block, sized)
        end = sized + 4 + size
        if end > len(block):
            raise MetadataError("damaged Photoshop resources")
        padded = min(end + size % 2, len(block))
        found.append(Resource(number, block[position:sized], block[sized + 4 : end], block[position:padded]))
        position = padded
    if block[position:].strip(b"\0"):
        raise MetadataError("damaged Photoshop resources")
    return found, block[position:]


def texts(block: bytes) -> list[Found]:
    """Return the texts of the resources' IPTC blocks. Raises MetadataError."""
    return [text for each in resources(block)[0] if each.number == IPTC for text in iptc.texts(each.value)]


def with_texts(block: bytes, edit: Edit, digests: Mapping[bytes, bytes] | None = None) -> bytes:
    """Return the resources with edited texts in their IPTC blocks; no block is added.

    Photoshop stores the MD5 of the IPTC block it wrote, to notice others' changes. A right MD5 is kept right.

    digests: new MD5 by old one, of IPTC blocks elsewhere; None for none.

    Raises MetadataError.

    Source: Metadata Working Group, Guidelines for Handling Image Metadata 2.0.
    """
    found, zeros = resources(block)
    new = [each.holding(iptc.with_texts(each.value, edit)) if each.number == IPTC else each for each in found]
    digests = dict(digests or {}) | {
        digest(before.value): digest(after.value) for before, after in zip(found, new, strict=True)
    }
    new = [each.holding(digests.get(each.value, each.value)) if each.number == IPTC_DIGEST else each for each in new]
    return b"".join(each.whole for each in new) + zeros


def digest(block: bytes) -> bytes:
    return hashlib.md5(block, usedforsecurity=False).digest()
