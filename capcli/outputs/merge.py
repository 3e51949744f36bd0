"""Merging outputs: every image once, from any part and format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from capcli.files import OutputError
from capcli.outputs.resume import whole_rows
from capcli.outputs.rows import Rows


@dataclass
class Merge:
    """Read parts twice: to find which row of each image to keep, and to yield those.

    Only two digests per kept row are remembered, so memory does not grow with captions and paths.

    parts: (path, format), in the order of their rows.
    num: most candidates of any image.
    keywords: whether any image has keywords.
    captions, failures: rows to keep.
    dropped: rows that repeat kept ones, and failures of captioned images.
    kept: digest of a path → digest of its row.
    """

    parts: Sequence[tuple[str, type[Rows]]]
    num: int = 1
    keywords: bool = False
    captions: int = 0
    failures: int = 0
    dropped: int = 0
    kept: dict[bytes, bytes] = field(default_factory=dict)

    def check(self) -> None:
        """Find which rows to keep.

        Raises OutputError if a part cannot be read or is not ours, or if captions of an image differ.
        """
        failed: set[bytes] = set()
        for path, kind in self.parts:
            for row in whole_rows(path, kind):
                self.num = max(self.num, len(row.get("candidates", ())))
                self.keywords = self.keywords or "keywords" in row
                image, digest, fails = digest_of(row["path"]), digest_of(row), "error" in row
                if image not in self.kept:
                    self.kept[image] = digest
                    failed |= {image} if fails else set()
                    continue
                self.dropped += 1
                if image in failed and not fails:
                    self.kept[image] = digest
                    failed.remove(image)
                elif not fails and self.kept[image] != digest:
                    where = " and ".join(dict.fromkeys((self.first_with_caption(row["path"]), path)))
                    raise OutputError(row["path"], f"has two captions that differ, in {where}")
        self.failures = len(failed)
        self.captions = len(self.kept) - self.failures

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each image's row, part by part; only once, after `check`. Raises OutputError."""
        for path, kind in self.parts:
            for row in whole_rows(path, kind):
                image = digest_of(row["path"])
                if self.kept.get(image) == digest_of(row):
                    del self.kept[image]
                    yield row
        if self.kept:
            raise OutputError("merge", "a part changed while it was read; wait until its run has ended")

    def first_with_caption(self, image: str) -> str:
        """Return the first part with a caption of an image."""
        rows = ((path, row) for path, kind in self.parts for row in whole_rows(path, kind))
        return next(path for path, row in rows if row["path"] == image and "error" not in row)


def digest_of(value: Any) -> bytes:
    """Return a 16-byte digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()[:16]
