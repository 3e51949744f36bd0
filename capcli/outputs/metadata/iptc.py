"""IPTC blocks, after the IPTC-NAA Information Interchange Model, version 4."""

from __future__ import annotations

import struct
from typing import NamedTuple

from capcli.outputs.metadata.errors import MetadataError, unpack
from capcli.outputs.metadata.texts import Edit, Found, decode_text, rewrite

CHARACTER_SET, KEYWORD, CAPTION, WRITER = (1, 90), (2, 25), (2, 120), (2, 122)  # (record, number) of a dataset
UTF_8 = b"\x1b%G"  # ISO 2022's escape sequence for UTF-8
OTHER_CODING = b"\x1b%"  # how ISO 2022 escapes encodings that do not extend ASCII
TEXTS = range(3, 200)  # numbers of record 2's datasets between the version and the previews
LARGEST_CAPTION, LARGEST_KEYWORD = 2000, 64  # bytes


class Dataset(NamedTuple):
    """Hold a dataset of an IPTC block.

    key: (record, number).
    whole: the value with its header, as in the block.
    """

    key: tuple[int, int]
    value: bytes
    whole: bytes

    def holding(self, value: bytes) -> Dataset:
        """Return the dataset with this value."""
        return self if value == self.value else dataset(self.key, value)


def dataset(key: tuple[int, int], value: bytes) -> Dataset:
    """Return a dataset. value: at most 32,767 bytes."""
    return Dataset(key, value, b"\x1c" + bytes(key) + struct.pack(">H", len(value)) + value)


def datasets(block: bytes) -> list[Dataset]:
    """Return a block's datasets, without trailing zeros. Raises MetadataError."""
    found = []
    position = 0
    while block[position : position + 1] == b"\x1c":
        record, number, size = unpack(">BBH", block, position + 1)
        start = position + 5
        if size & 0x8000:  # extended: this is its size's number of bytes
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


def texts(block: bytes) -> list[Found]:
    """Return a block's Caption-Abstract and Keywords. Raises MetadataError."""
    fields = {CAPTION: "description", KEYWORD: "keywords", WRITER: "writer", CHARACTER_SET: "declared"}
    found = [each for each in datasets(block) if each.key in fields]
    return [Found("IPTC", decode_text(each.value)[0], fields[each.key]) for each in found]


def with_texts(block: bytes, edit: Edit) -> bytes:
    """Return a block with its caption edited and keywords added; no caption is added.

    Other datasets stay byte for byte, except CodedCharacterSet, set if the texts need it.

    Raises MetadataError for a damaged block, a text that is too long, and one that its encoding cannot hold.
    """
    old = datasets(block)
    new = [each.holding(rewrite(each.value, edit.description, "IPTC")) if each.key == CAPTION else each for each in old]
    keywords = tuple(decode_text(each.value)[0] for each in old if each.key == KEYWORD)
    wanted = edit.keywords("IPTC", keywords)
    new = [each for each in new if each.key != KEYWORD or decode_text(each.value)[0] in wanted]
    added = [dataset(KEYWORD, text.encode()) for text in wanted if text not in keywords]
    put(new, added)
    if CAPTION in (each.key for each in old):
        writer = next((decode_text(each.value)[0] for each in old if each.key == WRITER), "")
        if (name := edit.writer("IPTC", writer)) != writer:
            new = [each for each in new if each.key != WRITER]
            put(new, [dataset(WRITER, name.encode())] if name else [])
    if not edit.declared:
        new = [each for each in new if each.key != CHARACTER_SET]
    if new == old:
        return block
    written = [each for each in new if each.key == CAPTION or each in added]
    for each in written:
        if len(each.value) > (LARGEST_CAPTION if each.key == CAPTION else LARGEST_KEYWORD):
            raise MetadataError("no room for a caption in its IPTC block")
    declared = next((each.value for each in old if each.key == CHARACTER_SET), b"")
    if declared != UTF_8:  # programs will read the texts as Latin-1
        if declared.startswith(OTHER_CODING):
            raise MetadataError("its IPTC block has an unknown character set")
        if not all(each.value.isascii() for each in written):
            new = declared_utf_8(new) or [in_latin(each) if each in written else each for each in new]
    return b"".join(each.whole for each in new)


def put(block: list[Dataset], added: list[Dataset]) -> None:
    """Put datasets of one key into a block: after those that are there, or where their number belongs."""
    for each in added[:1]:
        last = max((place for place, there in enumerate(block, 1) if there.key == each.key), default=0)
        place = last or sum(there.key < each.key for there in block)
        block[place:place] = added


def declared_utf_8(block: list[Dataset]) -> list[Dataset] | None:
    """Return the datasets declared as UTF-8; None if any of their texts is not."""
    if any(decode_text(each.value)[1] != "utf-8" for each in block if each.key[0] == 2 and each.key[1] in TEXTS):
        return None
    others = [each for each in block if each.key != CHARACTER_SET]
    place = sum(each.key < CHARACTER_SET for each in others)
    return [*others[:place], dataset(CHARACTER_SET, UTF_8), *others[place:]]


def in_latin(text: Dataset) -> Dataset:
    """Return a dataset with its text in Windows' Latin-1 (cp1252). Raises MetadataError if it does not fit."""
    words, codec = decode_text(text.value)
    try:
        return text.holding(words.encode("cp1252")) if codec == "utf-8" else text
    except UnicodeEncodeError:
        raise MetadataError("its IPTC block is in an encoding that cannot hold the new caption") from None


def trimmed(block: bytes) -> bytes:
    """Return a block without trailing zeros. Raises MetadataError."""
    return b"".join(each.whole for each in datasets(block))
