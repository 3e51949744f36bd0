"""IPTC blocks: IPTC-NAA Information Interchange Model, version 4."""

from __future__ import annotations

import struct
from typing import NamedTuple

from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import Change, Found, decode, rewrite

CHARACTER_SET, CAPTION = (1, 90), (2, 120)  # record and number of a dataset
UTF_8 = b"\x1b%G"  # the escape sequence of ISO 2022 for it
OTHER_CODING = b"\x1b%"  # the beginning of those for anything that is not built like ASCII
TEXTS = range(3, 200)  # the datasets of record 2 between its version and the previews
LARGEST_CAPTION = 2000  # bytes


class Dataset(NamedTuple):
    """key: record and number; value: what it holds; whole: with its header."""

    key: tuple[int, int]
    value: bytes
    whole: bytes

    def holding(self, value: bytes) -> Dataset:
        """Return the dataset with this value; the same if it has it."""
        return self if value == self.value else dataset(self.key, value)


def dataset(key: tuple[int, int], value: bytes) -> Dataset:
    """Return a dataset of up to 32,767 bytes."""
    return Dataset(key, value, b"\x1c" + bytes(key) + struct.pack(">H", len(value)) + value)


def datasets(block: bytes) -> list[Dataset]:
    """Return the datasets of a block, which zeros may follow. Raises MetadataError."""
    found = []
    position = 0
    while block[position : position + 1] == b"\x1c":
        record, number, size = unpack(">BBH", block, position + 1)
        start = position + 5
        if size & 0x8000:  # an extended dataset: so many bytes of size follow
            start += size & 0x7FFF
            size = int.from_bytes(block[position + 5 : start], "big")
        end = start + size
        if end > len(block):
            raise MetadataError("damaged IPTC")
        found.append(Dataset((record, number), block[start:end], block[position:end]))
        position = end
    if block[position:].strip(b"\0"):
        raise MetadataError("damaged IPTC")
    return found


def captions(block: bytes) -> list[Found]:
    """Return what its Caption-Abstract says; nothing where there is none. Raises MetadataError."""
    return [Found("IPTC", decode(each.value)[0]) for each in datasets(block) if each.key == CAPTION]


def with_caption(block: bytes, change: Change) -> bytes:
    """Return the block with its caption changed, and none added. All other datasets stay as they are, byte for byte,
    but for CodedCharacterSet, which is set where the new caption needs it. Raises MetadataError."""
    old = datasets(block)
    new = [each.holding(rewrite(each.value, change)) if each.key == CAPTION else each for each in old]
    if new == old:
        return block
    written = [each.value for each in new if each.key == CAPTION]
    if max(map(len, written)) > LARGEST_CAPTION:
        raise MetadataError("no room for a caption in its IPTC block")
    declared = next((each.value for each in old if each.key == CHARACTER_SET), b"")
    if declared != UTF_8:  # readers take the texts for Latin-1
        if declared.startswith(OTHER_CODING):
            raise MetadataError("its IPTC block has a character set that is not known")
        if not b"".join(written).isascii():
            new = declared_utf_8(new) or in_latin(new)
    return b"".join(each.whole for each in new)


def declared_utf_8(block: list[Dataset]) -> list[Dataset] | None:
    """Return the datasets with UTF-8 as their character set, or None where their texts are in another."""
    if any(decode(each.value)[1] != "utf-8" for each in block if each.key[0] == 2 and each.key[1] in TEXTS):
        return None
    others = [each for each in block if each.key != CHARACTER_SET]
    place = sum(each.key < CHARACTER_SET for each in others)
    return [*others[:place], dataset(CHARACTER_SET, UTF_8), *others[place:]]


def in_latin(block: list[Dataset]) -> list[Dataset]:
    """Return the datasets with the caption in the Latin-1 that Windows and readers know. Raises MetadataError."""

    def encoded(value: bytes) -> bytes:
        text, codec = decode(value)
        try:
            return text.encode("cp1252") if codec == "utf-8" else value
        except UnicodeEncodeError:
            raise MetadataError("its IPTC block is in an encoding that cannot hold the new caption") from None

    return [each.holding(encoded(each.value)) if each.key == CAPTION else each for each in block]


def trimmed(block: bytes) -> bytes:
    """Return a block without the zeros after it. Raises MetadataError."""
    return b"".join(each.whole for each in datasets(block))
