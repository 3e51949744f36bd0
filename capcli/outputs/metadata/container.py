"""What all image files have in common: blocks of metadata, and pixels that are copied byte for byte."""

from __future__ import annotations

import functools
from typing import Protocol

from capcli.outputs.metadata import tiff
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import PLACES, Edit, Found, ShownTexts, decode_text, joined, words

EXIF_START = b"Exif\0\0"
XMP_START = b"http://ns.adobe.com/xap/1.0/\0"


class BlockKind(Protocol):
    """Read and write one kind of metadata block. Most kinds are modules of this package."""

    def texts(self, block: bytes, /) -> list[Found]:
        """Return the texts in a block. Raises MetadataError."""

    def with_texts(self, block: bytes, edit: Edit, /) -> bytes:
        """Return a block with its texts changed, or the same bytes if nothing changes.

        block: empty for a file without one, which gets a new block.
        edit: what is to become of the texts.

        Raises MetadataError.
        """


class Container:
    """Hold a parsed image file.

    content: the file.
    blocks: for each segment or chunk with metadata, by its index, the kind of block and the block.
    added: the kinds of blocks that are added to a file without them.
    refusal: why no caption can be written into the file; empty if one can.
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
        """Return who made the camera, empty if that is not known. Raises MetadataError."""
        makers = [tiff.read_tag(block, tiff.MAKE) for kind, block in self.blocks.values() if kind is tiff]
        return decode_text(makers[0])[0] if makers else ""

    def words(self, text: str) -> str:
        """Return a text if a person wrote it, "" if a camera did. Raises MetadataError."""
        return words(text, self.maker)

    def description(self, found: Found) -> str:
        """Return a description that was found if a person wrote it, "" if a camera or a program did."""
        if found.place == "UserComment" and found.text.startswith(
            "{"
        ):  # where some phones store their settings as JSON
            return ""
        return self.words(found.text)

    @property
    def machines_texts(self) -> list[str]:
        """Return the descriptions that no person wrote. Raises MetadataError."""
        texts = [found.text for found in self.found if found.field == "description" and not self.description(found)]
        return list(dict.fromkeys(filter(str.strip, texts)))

    @property
    def caption(self) -> str:
        """Return the caption that photo managers would show, empty if there is none. Raises MetadataError."""
        return self.shown.description

    @property
    def shown(self) -> ShownTexts:
        """Return what photo managers would show. Raises MetadataError."""
        descriptions = (self.description(found) for found in self.found if found.field == "description")
        alts = (found.text for found in self.found if found.field == "alt")
        keywords = [found for found in self.found if found.field == "keywords"]
        first = [found.text for found in keywords if found.place == keywords[0].place]
        return ShownTexts(next(filter(None, descriptions), ""), next(filter(None, alts), ""), joined((), first))

    def with_texts(self, edit: Edit) -> bytes:
        """Return the file with its texts changed and missing ones added, or the same bytes if nothing changes.

        edit: is applied to each text by itself, and to "" for each that is missing.

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

        changed: the new blocks of segments or chunks, by index.
        added: blocks of kinds that the file has not had, by kind.

        Raises MetadataError if there is no room for them.
        """
        raise NotImplementedError
