"""One of N parts of a listing, captioned by separate processes or machines."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from dataclasses import dataclass

PLACEHOLDER = "{shard}"


@dataclass(frozen=True)
class Shard:
    """Name a part of a listing.

    index: 1 to count.
    count: of parts; another count spreads images anew.
    """

    index: int
    count: int

    def takes(self, path: str) -> bool:
        """Return whether a file is in this part; its path alone decides, so no other file moves it."""
        # Without the ending, so that images sharing a sidecar (`a.jpg`, `a.png`) meet. The name's bytes are hashed,
        # with slashes between folders on every platform.
        name = posixpath.splitext(path.replace(os.sep, "/"))[0]
        digest = hashlib.sha256(os.fsencode(name)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def __str__(self) -> str:
        """Return the text for `{shard}`, such as 03-of-12: names sort in order."""
        return f"{self.index:0{len(str(self.count))}}-of-{self.count}"


def parse_shard(text: str) -> Shard:
    """Return the part for `I/N`. Raises ValueError for anything but two numbers, 1 ≤ I ≤ N."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None:
        raise ValueError("must be I/N, as 3/8 for the third of eight parts")
    index, count = int(found[1]), int(found[2])
    if not 1 <= index <= count:
        raise ValueError(f"I must be from 1 to N, {count}" if count else "N must be 1 or more")
    return Shard(index, count)
