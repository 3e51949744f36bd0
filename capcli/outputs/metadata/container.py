"""The files that hold the blocks, of which the compressed pixels and every other block are copied byte for byte."""

from __future__ import annotations

import functools
from typing import Protocol

from capcli.outputs.metadata import tiff
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import PLACES, Change, Found, decode, words

EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"


class Kind(Protocol):
    """What knows one kind of metadata block: a module, most of them."""

    def captions(self, block: bytes, /) -> list[Found]:
        """Return the texts in a block. Raises MetadataError."""

    def with_caption(self, block: bytes, change: Change, /) -> bytes:
        """Return a block, or a new one in place of an empty one, with its texts changed; the same bytes where nothing
        changes. Raises MetadataError."""


class Container:
    """A parsed image file. blocks: number of the segment or chunk → its kind and what it holds; added: kinds of blocks
    that a file without them gets; refusal: why it can take no caption."""

    added: tuple[Kind, ...] = ()
    refusal = ""

    def __init__(self, content: bytes) -> None:
        """Raises MetadataError."""
        self.content = content
        self.blocks: dict[int, tuple[Kind, bytes]] = {}

    @functools.cached_property
    def found(self) -> list[Found]:
        """All texts, in the order of texts.PLACES. Raises MetadataError."""
        found = [text for kind, block in self.blocks.values() for text in kind.captions(block)]
        return sorted(found, key=lambda text: PLACES.index(text.place))

    @functools.cached_property
    def maker(self) -> str:
        """Who made the camera. Raises MetadataError."""
        makers = [tiff.read_tag(block, tiff.MAKE) for kind, block in self.blocks.values() if kind is tiff]
        return decode(makers[0])[0] if makers else ""

    def words(self, text: str) -> str:
        """Return the text if it is somebody's words and not the camera's. Raises MetadataError."""
        return words(text, self.maker)

    @property
    def caption(self) -> str:
        """What photo managers would show; empty if there is nothing. Raises MetadataError."""
        return next(filter(None, (self.words(text) for _, text in self.found)), "")

    def with_caption(self, change: Change) -> bytes:
        """Return the file with each of its texts changed by itself, and with the texts that it lacks added: the same
        bytes where nothing changes. Raises MetadataError."""
        if self.refusal:
            raise MetadataError(self.refusal)
        changed = {place: kind.with_caption(block, change) for place, (kind, block) in self.blocks.items()}
        changed = {place: block for place, block in changed.items() if block != self.blocks[place][1]}
        there = [kind for kind, _ in self.blocks.values()]
        added = {kind: kind.with_caption(b"", change) for kind in self.added if kind not in there}
        return self.assembled(changed, added) if changed or added else self.content

    def assembled(self, changed: dict[int, bytes], added: dict[Kind, bytes]) -> bytes:
        """Return the file with other blocks. Raises MetadataError."""
        raise NotImplementedError
