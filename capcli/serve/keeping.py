"""Captions written beside photos and into them, through the sinks of `caption`, and taken back."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capcli.files import OutputError
from capcli.outputs.existing import KEPT
from capcli.outputs.sink import Sink
from capcli.results import Caption, ImageError
from capcli.serve.journal import digest_of, put, read

MEMORY = 128_000_000  # bytes of files that are kept for undoing


@dataclass(frozen=True)
class Ours:
    """Hold what we know of a file that we wrote.

    original: its content before us, None without a file.
    digest: of its content since.
    earlier: whether an earlier run wrote the original, so that it may be overwritten.
    """

    original: bytes | None
    digest: str
    earlier: bool


@dataclass(frozen=True)
class Written:
    """Hold one save's change of a file.

    before: its content before, None without a file.
    ours: what we knew of it then.
    digest: of its content now.
    """

    path: str
    before: bytes | None
    ours: Ours | None
    digest: str


class Keeper:
    """Write each caption of a photo as if it were the first: our own earlier text is not the person's."""

    def __init__(self, sinks: Sequence[Sink], overwriting: Sequence[Sink], existing: str) -> None:
        """Take the sinks.

        overwriting: the same with `overwrite`, for files that an earlier run wrote where there was no text.
        existing: one of EXISTING, what sinks do about a text that is there.
        """
        self.sinks = list(zip(sinks, overwriting, strict=True))
        self.existing = existing
        self.ours: OrderedDict[str, Ours] = OrderedDict()

    def keep(self, caption: Caption, known: Mapping[str, str]) -> tuple[list[Written], list[str]]:
        """Write a photo's caption to each sink; return the changes, and a line for each sink that failed.

        known: digests of an earlier run's files, by path.

        Raises OSError if a file can be neither written nor restored; see `Journal`.
        """
        done: list[Written] = []
        problems: list[str] = []
        plans = []
        for sink, overwriting in self.sinks:  # look at all first, as one's content may matter to another
            place = sink.target(caption.path)
            assert place is not None  # a sink beside the photos or in them
            target = os.path.realpath(place)
            try:
                before = read(target)
                ours = self.ours.get(target)
                if ours is not None and digest_of(before) != ours.digest:  # changed by somebody else
                    ours = None
                if ours is not None:
                    earlier = ours.earlier
                else:
                    earlier = self.existing in KEPT and known.get(target) == digest_of(before)
                original = before if ours is None else ours.original
                if original != before:
                    put(target, original)
            except OSError as error:
                problems.append(why(error))
                continue
            plans.append((overwriting if earlier else sink, target, before, ours, original, earlier))
        for sink, target, before, ours, original, earlier in plans:
            try:
                self.write(sink, caption)
                written = Written(target, before, ours, digest_of(read(target)))
            except (ImageError, OutputError, OSError) as error:
                problems.append(why(error))
                if original != before and read(target) == original:
                    put(target, before)
                continue
            self.note(target, Ours(original, written.digest, earlier))
            done.append(written)
        return done, problems

    def write(self, sink: Sink, caption: Caption) -> None:
        """Write a caption to a sink. Raises ImageError, also for a text that is there and stays, and OutputError."""
        if sink.wants(caption.path) is False:
            more = "it stays; --existing overwrite, append or prepend would change it"
            raise ImageError(caption.path, f"{sink.where(caption.path)} has a text already: {more}")
        sink.write(caption)

    def take_back(self, done: Sequence[Written]) -> list[str]:
        """Undo a save's changes; return a line for each file left, as it has changed since.

        Raises OSError for a file that cannot be changed.
        """
        problems = []
        for written in reversed(done):
            try:
                now = digest_of(read(written.path))
            except OSError as error:
                problems.append(why(error))
                continue
            if now != written.digest:
                problems.append(f"{written.path}: changed since; left as it is")
                continue
            put(written.path, written.before)
            if written.ours is None:
                self.ours.pop(written.path, None)
            else:
                self.note(written.path, written.ours)
        return problems

    def note(self, path: str, ours: Ours) -> None:
        """Remember a file as ours, forgetting the oldest when MEMORY is full."""
        self.ours[path] = ours
        self.ours.move_to_end(path)
        held = sum(len(each.original or b"") for each in self.ours.values())
        while held > MEMORY:
            _, oldest = self.ours.popitem(last=False)
            held -= len(oldest.original or b"")


def why(error: ImageError | OutputError | OSError) -> str:
    """Return why a file took no caption, with its name where the error has it."""
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return error.reason if isinstance(error, ImageError) else str(error)
