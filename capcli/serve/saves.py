"""What a save did, so that it can be told and undone."""

from __future__ import annotations

from dataclasses import dataclass, field

from capcli.serve.corrections import Row
from capcli.serve.keeping import Written
from capcli.serve.photos import Photo


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
