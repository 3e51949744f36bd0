"""Captions that go beside the photos and into them, through the sinks of `caption`, and how they are taken back."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capcli.files import OutputError, sync_folder, write_whole
from capcli.outputs.existing import KEPT
from capcli.outputs.metadata import Metadata
from capcli.outputs.sink import Sink
from capcli.results import Caption, ImageError

MEMORY = 128_000_000  # bytes of files that are kept for undoing


@dataclass(frozen=True)
class Ours:
    """Hold what we know of a file that we wrote to.

    original: what it was before, None if it was not there.
    digest: of what it has been since.
    earlier: whether what it was before is an earlier run's, which may be overwritten.
    """

    original: bytes | None
    digest: str
    earlier: bool


@dataclass(frozen=True)
class Written:
    """Hold what one save has done to a file.

    path: of the file.
    before: what it was, None if it was not there.
    ours: what we knew about it then.
    digest: of what it is now.
    """

    path: str
    before: bytes | None
    ours: Ours | None
    digest: str


class Keeper:
    """Write captions of photos, each as if it were the first: what we wrote ourselves is no text of the person's."""

    def __init__(self, sinks: Sequence[Sink], overwriting: Sequence[Sink], existing: str) -> None:
        """Take the sinks.

        sinks: that captions go to.
        overwriting: the same, but with `overwrite`: for files that an earlier run wrote, where there was no text.
        existing: one of EXISTING, what the sinks do about texts that are there.
        """
        self.sinks = list(zip(sinks, overwriting, strict=True))
        self.existing = existing
        self.ours: OrderedDict[str, Ours] = OrderedDict()

    def keep(
        self, caption: Caption, known: Mapping[str, str], interrupted: Sequence[Caption] = ()
    ) -> tuple[list[Written], list[str]]:
        """Write a caption to each sink; return what was done, and a line for each that did not take it.

        caption: of a photo.
        known: digests of files that an earlier run wrote, by their paths.
        interrupted: what earlier runs may have written, or not, when they were killed.
        """
        done: list[Written] = []
        problems: list[str] = []
        plans = []
        for sink, overwriting in self.sinks:  # all of them first, as what is in one may matter to another
            target = os.path.realpath(caption.path if isinstance(sink, Metadata) else sink.where(caption.path))
            try:
                before = read(target)
                ours = self.ours.get(target)
                if ours is not None and digest_of(before) != ours.digest:  # somebody else has changed it
                    ours = None
                if ours is not None:
                    earlier = ours.earlier
                elif self.existing in KEPT:
                    earlier = known.get(target, "") == digest_of(before) or any(
                        holds(overwriting, each, target, before) for each in interrupted
                    )
                else:
                    earlier = False
                original = before if ours is None else ours.original
                if original != before:
                    put(target, original)
            except (ImageError, OutputError, OSError) as error:
                problems.append(error.reason if isinstance(error, ImageError) else str(error))
                continue
            plans.append((overwriting if earlier else sink, target, before, ours, original, earlier))
        for sink, target, before, ours, original, earlier in plans:
            try:
                self.write(sink, caption)
                sync(target)
                written = Written(target, before, ours, digest_of(read(target)))
            except (ImageError, OutputError, OSError) as error:
                problems.append(error.reason if isinstance(error, ImageError) else str(error))
                if original != before:
                    with contextlib.suppress(OSError):
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
        """Make files what they were before a save; return a line for each that somebody else has changed since."""
        problems = []
        for written in reversed(done):
            try:
                if digest_of(read(written.path)) != written.digest:
                    problems.append(f"{written.path}: changed since; left as it is")
                    continue
                put(written.path, written.before)
            except (OutputError, OSError) as error:
                problems.append(str(error))
                continue
            if written.ours is None:
                self.ours.pop(written.path, None)
            else:
                self.note(written.path, written.ours)
        return problems

    def note(self, path: str, ours: Ours) -> None:
        """Remember what a file was before us; the oldest are forgotten where memory would run out."""
        self.ours[path] = ours
        self.ours.move_to_end(path)
        held = sum(len(each.original or b"") for each in self.ours.values())
        while held > MEMORY:
            _, oldest = self.ours.popitem(last=False)
            held -= len(oldest.original or b"")


def holds(overwriting: Sink, caption: Caption, target: str, content: bytes | None) -> bool:
    """Return whether a file has just this caption: writing it there again then changes nothing.

    overwriting: the sink that writes the file.
    target: the file.
    content: what is in it.

    Raises ImageError, OutputError and OSError.
    """
    if content is None:
        return False
    overwriting.write(caption)
    if read(target) == content:
        return True
    put(target, content)
    return False


def read(path: str) -> bytes | None:
    """Return a file's content, None if there is none. Raises OutputError for a pipe or a device, and OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise OutputError(path, "not a regular file")
        return Path(path).read_bytes()
    return None


def put(path: str, content: bytes | None) -> None:
    """Make a file what it was; None removes it. Raises OSError."""
    if content is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_folder(os.path.dirname(path))
        return
    like = Path(path) if os.path.exists(path) else None
    write_whole(Path(path), content, like=like, keep_times=like is not None)


def sync(path: str) -> None:
    """Wait until the disk has a file that a sink wrote; sinks do not wait for each, as captions can be made again."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(os.path.dirname(path))


def digest_of(content: bytes | None) -> str:
    """Return what identifies a content; `-` for that of no file."""
    return "-" if content is None else hashlib.sha256(content).hexdigest()
