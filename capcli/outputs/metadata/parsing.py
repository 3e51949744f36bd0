"""Parsing an image file: its container, or why it cannot take a caption."""

from __future__ import annotations

from capcli.images.raw import is_raw
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.foreign import ONLY, Foreign
from capcli.outputs.metadata.jpeg import Jpeg
from capcli.outputs.metadata.png import PNG_SIGNATURE, Png
from capcli.outputs.metadata.tiff_file import Tiff
from capcli.outputs.metadata.webp import WebP


def parse(content: bytes, name: str = "") -> Container:
    """Return a parsed image file; its refusal says whether it can take a caption.

    name: its ending tells raw files from TIFF.

    Raises MetadataError for a damaged file, or no image.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return Jpeg(content)
    if content.startswith(PNG_SIGNATURE):
        return Png(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return WebP(content)
    if content.startswith((b"II*\0", b"MM\0*")):
        file = Tiff(content)
        # Raw files are TIFF too, but some makers' programs expect the directory where the camera put it.
        if content[8:10] == b"CR" or is_raw(name):
            file.refusal = ONLY
        return file
    if not content:
        raise MetadataError("the file is empty")
    return Foreign(content, name)
