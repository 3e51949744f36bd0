"""Putting rows together: every image once, whatever part and format its row is in."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from capcli.files import OutputError
from capcli.outputs.incoming import rows_in
from capcli.outputs.rows import real_place

FAILURE, EMPTY, CAPTION = range(3)  # a row gives way to one of a higher rank


@dataclass
class Merge:
    """Read parts twice: once to find out which row of each image is to be kept, and once to give those rows.

    Only two digests of each kept row are remembered, so memory does not grow with the length of captions and paths.

    parts: files and folders, in the order in which their rows are given.
    columns: as `rows_in` takes them.
    num: candidates of the image that has most.
    keywords: whether an image has keywords.
    captions, empty, failures: rows to be kept.
    dropped: rows that say nothing else than those that are kept, and those that say less.
    root: the folder that holds all images; empty for none.
    kept: digest of an image's place → rank, part, number of the row in it, and digest of its caption.
    differing: digest of an image's place → the later part whose caption differs.
    """

    parts: Sequence[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    num: int = 1
    keywords: bool = False
    captions: int = 0
    empty: int = 0
    failures: int = 0
    dropped: int = 0
    root: str = ""
    kept: dict[bytes, bytes] = field(default_factory=dict)
    differing: dict[bytes, int] = field(default_factory=dict)

    def check(self) -> None:
        """Find out what is to be kept. Raises OutputError if a part can't be read."""
        counts = [0, 0, 0]
        folders: set[str] = set()
        for image, entry, row in self.read():
            self.num = max(self.num, len(row.get("candidates", ())))
            self.keywords = self.keywords or "keywords" in row
            folders.add(os.path.dirname(os.path.abspath(row["path"])))
            old = self.kept.get(image)
            self.dropped += old is not None
            if old is None or entry[0] > old[0]:
                counts[entry[0]] += 1
                if old is not None:
                    counts[old[0]] -= 1
                self.kept[image] = entry
            elif entry[0] == old[0] == CAPTION and caption_of(entry) != caption_of(old):
                self.differing.setdefault(image, part_of(entry))
        self.failures, self.empty, self.captions = counts
        self.dropped -= len(self.differing)
        with contextlib.suppress(ValueError):  # on different drives
            self.root = os.path.commonpath(folders) if folders else ""

    def rows(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the row of each image, part by part, and why it cannot be taken, which is empty if it can.

        To be called once, after `check`. Raises OutputError.
        """
        for image, entry, row in self.read():
            if self.kept.get(image) == entry:
                del self.kept[image]
                wrong = ""
                if image in self.differing:
                    parts = dict.fromkeys(self.parts[each] for each in (part_of(entry), self.differing[image]))
                    wrong = f"has two captions that differ, in {' and '.join(parts)}"
                yield row, wrong
        if self.kept:
            raise OutputError("write", "a file of rows changed while it was read; wait until its run has ended")

    def read(self) -> Iterator[tuple[bytes, bytes, dict[str, Any]]]:
        """Yield each row after the digest of its image's place, and what `kept` has of it. Raises OutputError."""
        for part, source in enumerate(self.parts):
            numbers = count()
            for row in rows_in(source, self.columns):
                rank = FAILURE if "error" in row else CAPTION if row["caption"] else EMPTY
                entry = bytes([rank]) + part.to_bytes(4) + next(numbers).to_bytes(5) + digest_of(row.get("caption"))
                yield digest_of(real_place(row["path"])), entry, row


def part_of(entry: bytes) -> int:
    """Return the part that a row is in. entry: as `Merge.kept` has it."""
    return int.from_bytes(entry[1:5])


def caption_of(entry: bytes) -> bytes:
    """Return the digest of a row's caption. entry: as `Merge.kept` has it."""
    return entry[10:]


def digest_of(value: Any) -> bytes:
    """Return 16 bytes that are the same for equal values, and for no others. value: as JSON has it."""
    return hashlib.sha256(json.dumps(value).encode()).digest()[:16]
