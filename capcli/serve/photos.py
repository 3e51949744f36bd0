"""A photo of the folder, and its history."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Photo:
    """Hold a photo of the folder.

    number: its place in the listing, and its name in requests.
    name: its path relative to the folder.
    content: as `content_of` gave it at captioning.
    candidates: `{"caption", "log_prob", "score"}`, best first; empty until captioned.
    done: whether the present model has captioned it, or cannot.
    before: the best caption of another model, before this one's.
    error: why it cannot be captioned.
    confidence: how likely the best candidate is right, 0 to 1; None where the model cannot tell.
    text, place: what its files say of it, and where; None if they say nothing, or nobody has looked yet.
    saved: its saved caption.
    said: what the model said when that was saved; None where nobody noted it.
    version: rises with each change.
    state: new for each saved text; undoing restores the one before.
    changed: the album's `change` at its last change.
    """

    number: int
    path: str
    name: str
    content: str = ""
    candidates: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False
    unsure: bool = False
    confidence: float | None = None
    before: str | None = None
    error: str | None = None
    text: str | None = None
    place: str | None = None
    saved: str | None = None
    said: str | None = None
    version: int = 0
    state: int = 0
    changed: int = 0


def content_of(path: str) -> str:
    """Return a name for a file's content, which changes with it.

    Made of place, size and times: digests would mean reading a large folder twice.
    """
    state: tuple[int, ...] = ()
    with contextlib.suppress(OSError):
        found = os.stat(path)
        state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return hashlib.sha256(os.fsencode(f"{os.path.realpath(path)}{state}")).hexdigest()[:32]
