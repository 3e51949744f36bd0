"""The error for metadata that cannot be read or written."""

from __future__ import annotations

import struct


class MetadataError(Exception):
    """Report a file into which no caption can be written safely; str() says why."""


def unpack(layout: str, content: bytes, position: int) -> tuple:
    """Return the values at a position in the content. layout: see `struct`. Raises MetadataError if it ends before."""
    try:
        return struct.unpack_from(layout, content, position)
    except struct.error:
        raise MetadataError("the file or its metadata is damaged") from None
