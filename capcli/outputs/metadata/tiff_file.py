"""TIFF files, of the same structure as EXIF blocks: see tiff.py."""

from __future__ import annotations

from capcli.outputs.metadata import tiff, xmp
from capcli.outputs.metadata.container import BlockKind, Container


class Tiff(Container):
    """Hold a TIFF file, as one block; its captions are the first page's."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.blocks[0] = tiff, content
        self.added = () if tiff.read_tag(content, tiff.XMP) else (xmp,)

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        content = changed.get(0, self.content)
        return tiff.set_fields(content, {tiff.XMP: tiff.Field(tiff.BYTE, added[xmp])}) if added else content
