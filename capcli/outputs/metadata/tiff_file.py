"""TIFF files, which are what EXIF blocks are made of, see tiff.py."""

from __future__ import annotations

from capcli.outputs.metadata import tiff, xmp
from capcli.outputs.metadata.container import BlockKind, Container


class Tiff(Container):
    """Hold a TIFF file, which is one block as a whole; its captions are those of the first page."""

    def __init__(self, content: bytes) -> None:
        """Parse a file. Raises MetadataError if it is damaged."""
        super().__init__(content)
        self.blocks[0] = tiff, content
        self.added = () if tiff.read_tag(content, tiff.XMP) else (xmp,)

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        """Return the file with other fields; see `Container.assembled`."""
        content = changed.get(0, self.content)
        return tiff.set_fields(content, {tiff.XMP: tiff.Field(tiff.BYTE, added[xmp])}) if added else content
