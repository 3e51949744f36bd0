"""What all image files share: blocks of metadata, and pixels copied byte for byte."""

from __future__ import annotations

import functools
from typing import Protocol

from capcli.outputs.metadata import tiff
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import PLACES, Edit, Found, ShownTexts, decode_text, joined, words

EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"


class BlockKind(Protocol):
    """Read and write a kind of metadata block. Most kinds are modules of this package."""

    def texts(self, block: bytes, /) -> list[Found]:
        """Return a block's texts. Raises MetadataError."""

    def with_texts(self, block: bytes, edit: Edit, /) -> bytes:
        """Return a block with edited texts, or the same bytes if nothing changes.

        block: empty for a file without one, which gets a new block.

        Raises MetadataError.
        """


class Container:
    """Hold a parsed image file.

    blocks: kind and block of each segment or chunk with metadata, by its index.
    added: kinds of blocks added to a file without them.
    refusal: why the file cannot take a caption; empty if it can.
    """

    added: tuple[BlockKind, ...] = ()
    refusal = ""

    def __init__(self, content: bytes) -> None:
        """Parse a file. Raises MetadataError if it is damaged."""
        self.content = content
        self.blocks: dict[int, tuple[BlockKind, bytes]] = {}

    @functools.cached_property
    def found(self) -> list[Found]:
        """Return all texts, in the order of texts.PLACES. Raises MetadataError."""
        found = [text for kind, block in self.blocks.values() for text in kind.texts(block)]
        return sorted(found, key=lambda text: PLACES.index(text.place))

    @functools.cached_property
    def maker(self) -> str:
        """Return the camera's maker, or "". Raises MetadataError."""
        makers = [tiff.read_tag(block, tiff.MAKE) for kind, block in self.blocks.values() if kind is tiff]
        return decode_text(makers[0])[0] if makers else ""

    def words(self, text: str) -> str:
        """Return a text if a person wrote it, "" for a camera's. Raises MetadataError."""
        return words(text, self.maker)

    def description(self, found: Found) -> str:
        """Return a description if a person wrote it, "" for a camera's or program's."""
        if found.place == "UserComment" and found.text.startswith("{"):  # some phones store their settings as JSON
            return ""
        return self.words(found.text)

    @property
    def machines_texts(self) -> list[str]:
        """Return the descriptions that no person wrote. Raises MetadataError."""
        texts = [found.text for found in self.found if found.field == "description" and not self.description(found)]
        return list(dict.fromkeys(filter(str.strip, texts)))

    @property
    def caption(self) -> str:
        """Return the caption that photo managers show, or "". Raises MetadataError."""
        return self.shown.description

    @property
    def shown(self) -> ShownTexts:
        """Return what photo managers show. Raises MetadataError."""
        descriptions = (self.description(found) for found in self.found if found.field == "description")
        alts = (found.text for found in self.found if found.field == "alt")
        keywords = [found for found in self.found if found.field == "keywords"]
        first = [found.text for found in keywords if found.place == keywords[0].place]
        return ShownTexts(next(filter(None, descriptions), ""), next(filter(None, alts), ""), joined((), first))

    def with_texts(self, edit: Edit) -> bytes:
        """Return the file with edited and added texts, or the same bytes if nothing changes.

        edit: applied to each text by itself, and to "" for a missing one.

        Raises MetadataError.
        """
        if self.refusal:
            raise MetadataError(self.refusal)
        changed = {index: kind.with_texts(block, edit) for index, (kind, block) in self.blocks.items()}
        changed = {index: block for index, block in changed.items() if block != self.blocks[index][1]}
        there = [kind for kind, _ in self.blocks.values()]
        made = {kind: kind.with_texts(b"", edit) for kind in self.added if kind not in there}
        added = {kind: block for kind, block in made.items() if block}
        return self.assembled(changed, added) if changed or added else self.content

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        """Return the file with other blocks.

        changed: new blocks of segments or chunks, by index.
        added: blocks of kinds new to the file, by kind.

        Raises MetadataError if they do not fit.
        """
        raise NotImplementedError
