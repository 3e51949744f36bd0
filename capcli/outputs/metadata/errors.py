"""The error for metadata that cannot be read or written."""

from __future__ import annotations

import struct


class MetadataError(Exception):
    """Report a file that cannot safely take a caption; str() says why."""


def unpack(layout: str, content: bytes, position: int) -> tuple:
    """Return values at a position in the content. layout: see `struct`. Raises MetadataError past its end."""
    try:
        return struct.unpack_from(layout, content, position)
    except struct.error:
        raise MetadataError("the file or its metadata is damaged") from None
