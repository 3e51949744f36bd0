"""Metadata that cannot be understood."""

from __future__ import annotations

import struct


class MetadataError(Exception):
    """A file into which no caption can be written safely; str() says why."""


def unpack(layout: str, content: bytes, position: int) -> tuple:
    """struct.unpack_from that raises MetadataError at the end of the content."""
    try:
        return struct.unpack_from(layout, content, position)
    except struct.error:
        raise MetadataError("a damaged file, or damaged metadata") from None
