"""TIFF files: TIFF 6.0."""

from __future__ import annotations

from capcli.outputs.metadata import tiff, xmp
from capcli.outputs.metadata.container import Container, Kind


class Tiff(Container):
    """The file itself is what EXIF blocks are made of; captions are those of the first page."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.blocks[0] = tiff, content
        self.added = () if tiff.read_tag(content, tiff.XMP) else (xmp,)

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other fields. Raises MetadataError."""
        content = changed.get(0, self.content)
        return tiff.set_fields(content, {tiff.XMP: tiff.Field(tiff.BYTE, added[xmp])}) if added else content
