"""What a save did, to report it and undo it."""

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
    """Hold a save's effect on one photo: its state and row before, its state since, and its files."""

    photo: Photo
    before: int
    since: int
    row: Row | None
    files: list[Written]


@dataclass(frozen=True)
class Save:
    """Hold one save's steps, to undo it."""

    steps: list[Step]

    @property
    def size(self) -> int:
        """Return the bytes of file contents that it keeps."""
        return sum(len(each.before or b"") for step in self.steps for each in step.files)


class Saves:
    """Keep saves by number in `kept`, for undoing; the oldest are forgotten."""

    def __init__(self) -> None:
        self.kept: OrderedDict[int, Save] = OrderedDict()
        self.last = secrets.randbits(48)  # tells another run's saves from this one's

    def add(self, save: Save) -> int:
        """Keep a save and return its number."""
        self.last += 1
        self.kept[self.last] = save
        held = sum(each.size for each in self.kept.values())
        while held > MEMORY or len(self.kept) > LEAST_UNDOS:
            _, oldest = self.kept.popitem(last=False)
            held -= oldest.size
        return self.last


@dataclass
class Saved:
    """Hold the outcome of saving or undoing.

    save: its number.
    photos: those changed.
    conflicts: those left alone, as somebody else had changed them.
    problems: lines about files that took no caption.
    """

    save: int = 0
    photos: list[Photo] = field(default_factory=list)
    conflicts: list[Photo] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
