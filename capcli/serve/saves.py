"""What a save did, so that it can be told and undone."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from capcli.serve.corrections import Row
from capcli.serve.keeping import MEMORY, Written
from capcli.serve.photos import Photo

LEAST_UNDOS = 1000  # saves that can be undone, where no files were written


@dataclass(frozen=True)
class Step:
    """Hold what a save did to one photo: its state and row before, its state since, and its files."""

    photo: Photo
    before: int
    since: int
    row: Row | None
    files: list[Written]


@dataclass(frozen=True)
class Save:
    """Hold what one save did, so that it can be undone."""

    steps: list[Step]

    @property
    def size(self) -> int:
        """Return the bytes of files that are kept for it."""
        return sum(len(each.before or b"") for step in self.steps for each in step.files)


class Saves:
    """Keep saves by their numbers in `kept`, so that they can be undone; the oldest are forgotten."""

    def __init__(self) -> None:
        """Begin without any."""
        self.kept: OrderedDict[int, Save] = OrderedDict()
        self.last = secrets.randbits(48)  # so that a save of another run is none of this one

    def add(self, save: Save) -> int:
        """Keep a save, and return its number."""
        self.last += 1
        self.kept[self.last] = save
        held = sum(each.size for each in self.kept.values())
        while held > MEMORY or len(self.kept) > LEAST_UNDOS:
            _, oldest = self.kept.popitem(last=False)
            held -= oldest.size
        return self.last


@dataclass
class Saved:
    """Say what became of a request to save or to undo.

    save: its number, by which it can be undone.
    photos: those that were changed.
    conflicts: those that somebody else had changed meanwhile, which are as they were.
    problems: lines about files that did not take a caption.
    """

    save: int = 0
    photos: list[Photo] = field(default_factory=list)
    conflicts: list[Photo] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
