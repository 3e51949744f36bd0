"""Captions written beside photos and into them, through the sinks of `caption`, and taken back."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from capcli.files import OutputError
from capcli.outputs.existing import KEPT
from capcli.outputs.sink import Sink
from capcli.results import Caption, ImageError
from capcli.serve.journal import Step, digest_of, put, read, step_of
from capcli.serve.texts import text_in

MEMORY = 128_000_000  # bytes of files that are kept for undoing
LONGEST = 20_000  # characters of what a row keeps of a file's content before the first save


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
class Known:
    """Hold what a row says of a file that its caption went to.

    digest: of its content with the caption.
    step: back to its content before any save; None where that would make the row too long, or nobody noted it.
    """

    digest: str
    step: Step | None = None

    @classmethod
    def of(cls, noted: Any) -> Known:
        """Return what a row has; see `noted`."""
        step = step_of({"name": "", **noted}) if isinstance(noted, dict) else None
        return cls(step.now, step) if step else cls(str(noted))

    @classmethod
    def between(cls, original: bytes | None, now: bytes | None) -> Known:
        """Return what is known of a file from its two contents; None without a file."""
        step = Step.of("", original, now)
        return cls(step.now, step if len(step.middle) <= LONGEST else None)

    @property
    def noted(self) -> Any:
        """Return what goes into the row."""
        return self.digest if self.step is None else {k: v for k, v in asdict(self.step).items() if k != "name"}

    def original(self, content: bytes | None) -> bytes | None:
        """Return what a file was before any save. content: with the caption. Raises ValueError if nobody knows."""
        if self.step is None:
            raise ValueError("nobody knows what it was")
        original = self.step.undone(content)
        if digest_of(original) != self.step.was:
            raise ValueError("not what the row says")
        return original


@dataclass(frozen=True)
class Written:
    """Hold one save's change of a file.

    before: its content before, None without a file.
    ours: what we knew of it then.
    digest: of its content now.
    known: what its photo's row is to say of it.
    """

    path: str
    before: bytes | None
    ours: Ours | None
    digest: str
    known: Known


class Plan(NamedTuple):
    """Hold what is to be written: the sink, the same with `overwrite`, and the rest as in Written and Ours."""

    sink: Sink
    overwriting: Sink
    target: str
    before: bytes | None
    ours: Ours | None
    earlier: bool

    @property
    def original(self) -> bytes | None:
        """Return the file's content before us, None without a file."""
        return self.before if self.ours is None else self.ours.original


class Keeper:
    """Write each caption of a photo as if it were the first: our own earlier text is not the person's."""

    def __init__(self, sinks: Sequence[Sink], overwriting: Sequence[Sink], existing: str | None = None) -> None:
        """Take the sinks.

        overwriting: the same with `overwrite`, for files that an earlier run wrote where there was no text.
        existing: one of EXISTING, what sinks do about a text that is there; None keeps it too, unless it is the text
            that was shown to the person who changes it.
        """
        self.sinks = list(zip(sinks, overwriting, strict=True))
        self.existing, self.keeps = existing, existing is None or existing in KEPT
        self.ours: OrderedDict[str, Ours] = OrderedDict()

    def keep(
        self, caption: Caption, known: Mapping[str, Known], shown: str | None = None
    ) -> tuple[list[Written], list[str]]:
        """Write a photo's caption to each sink; return the changes, and a line for each sink that failed.

        known: what the photo's row says of files, by path.
        shown: the text of the photo's files that the person saw.

        Raises OSError if a file can be neither written nor restored; see `Journal`.
        """
        done: list[Written] = []
        problems: list[str] = []
        plans = []
        for sink, overwriting in self.sinks:  # look at all first, as one's content may matter to another
            target = target_of(sink, caption.path)
            try:
                before = read(target)
                ours = self.known(target, before, known)
                noted = known.get(target)
                earlier = self.keeps and noted is not None and noted.digest == digest_of(before)
                plan = Plan(sink, overwriting, target, before, ours, ours.earlier if ours else earlier)
                if plan.original != before:
                    put(target, plan.original)
            except OSError as error:
                problems.append(why(error))
                continue
            plans.append(plan)
        seen = [self.existing is None and text_in(plan.sink, caption.path) == shown for plan in plans]
        for plan, was_seen in zip(plans, seen, strict=True):
            ours = plan.ours
            replaces = plan.earlier or was_seen or (ours is not None and self.existing is None)
            try:
                self.write(plan.overwriting if replaces else plan.sink, caption)
                noted = Known.between(plan.original, read(plan.target))
            except (ImageError, OutputError, OSError) as error:
                problems.append(why(error))
                if plan.original != plan.before and read(plan.target) == plan.original:
                    put(plan.target, plan.before)
                continue
            self.note(plan.target, Ours(plan.original, noted.digest, plan.earlier))
            remembered = Known(noted.digest) if plan.earlier else noted
            done.append(Written(plan.target, plan.before, ours, noted.digest, remembered))
        return done, problems

    def known(self, target: str, content: bytes | None, known: Mapping[str, Known]) -> Ours | None:
        """Return what we know of a file as ours, None if it is not, or somebody else has changed it since.

        content: of the file.
        known: as `keep` takes it.
        """
        digest = digest_of(content)
        if (ours := self.ours.get(target)) is not None:
            return ours if ours.digest == digest else None
        if target in known and known[target].digest == digest:
            with contextlib.suppress(ValueError):
                return Ours(known[target].original(content), digest, earlier=False)
        return None

    def remove(self, image: str, known: Mapping[str, Known]) -> tuple[list[Written], list[str]]:
        """Make files what they were before any save; return the changes, and a line for each that keeps its text.

        image: the photo.
        known: what its row says of files, by path.

        Raises OSError for a file that cannot be changed.
        """
        done, problems = [], []
        left = dict(known)
        for sink, _ in self.sinks:
            target = target_of(sink, image)
            noted = left.pop(target, None)
            try:
                content = read(target)
            except OSError as error:
                problems.append(why(error))
                continue
            ours = self.known(target, content, known)
            if ours is not None and not ours.earlier:
                put(target, ours.original)
                self.ours.pop(target, None)
                digest = digest_of(ours.original)
                done.append(Written(target, content, ours, digest, Known(digest)))
            elif noted is not None or ours is not None:
                changed = noted is not None and noted.digest != digest_of(content)
                reason = "changed since" if changed else "what it was before is not known"
                problems.append(f"{target}: {reason}; left as it is")
        problems += [f"{path}: written with other options; left as it is" for path in left]
        return done, problems

    def write(self, sink: Sink, caption: Caption) -> None:
        """Write a caption to a sink. Raises ImageError, also for a text that is there and stays, and OutputError."""
        if sink.wants(caption.path) is False:
            more = "it stays; --existing overwrite, append or prepend would change it"
            raise ImageError(caption.path, f"{sink.where(caption.path)} has a text already: {more}")
        sink.write(caption)

    def take_back(self, done: Sequence[Written]) -> list[str]:
        """Undo a save's changes, last first; return a line for each file left, as it changed since or is unreadable.

        Raises OSError for a file that cannot be written; those undone before stay so.
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


def target_of(sink: Sink, image: str) -> str:
    """Return the real path of the file that an image's caption goes to."""
    place = sink.target(image)
    assert place is not None  # a sink beside the photos or in them
    return os.path.realpath(place)


def why(error: ImageError | OutputError | OSError) -> str:
    """Return why a file took no caption, with its name where the error has it."""
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return error.reason if isinstance(error, ImageError) else str(error)
