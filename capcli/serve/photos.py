"""A photo of the folder, and what becomes of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Photo:
    """Hold a photo of the folder.

    number: its place in the listing, which names it in requests.
    path: of the file.
    name: relative to the folder.
    content: names what the file held when it was captioned; no other content of any file has this name.
    candidates: `{"caption", "log_prob", "score"}`, best first; empty until it is captioned.
    unsure: as of the caption.
    error: why it cannot be captioned.
    saved: the caption that was saved for it.
    version: rises with each change.
    state: another for each text that was saved; undoing brings back that of before.
    changed: the album's `change` when anything here last changed.
    """

    number: int
    path: str
    name: str
    content: str = ""
    candidates: list[dict[str, Any]] = field(default_factory=list)
    unsure: bool = False
    error: str | None = None
    saved: str | None = None
    version: int = 0
    state: int = 0
    changed: int = 0


def content_of(path: str) -> str:
    """Return a name for what a file holds, which changes with it.

    It is made of the file's place, size and times, as a large folder would have to be read twice for a digest.
    """
    state: tuple[int, ...] = ()
    with contextlib.suppress(OSError):
        found = os.stat(path)
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return hashlib.sha256(os.fsencode(f"{os.path.realpath(path)}{state}")).hexdigest()[:32]
