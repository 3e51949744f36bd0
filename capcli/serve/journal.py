"""A journal of a save's changes to files, so that one that fails or is killed is taken back whole."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from capcli.files import errors_name, replacing, sync_folder, write_whole
from capcli.outputs.originals import UntouchableError, original

NO_FILE = "-"  # in place of a digest


@dataclass(frozen=True)
class Step:
    """Hold one change of a file, small where most of it stays.

    name: relative to the journal's folder where possible.
    was, now: digests before and after; NO_FILE without a file.
    head, tail: number of bytes in common at the beginning and the end.
    middle: the old bytes between these, in Base64.
    """

    name: str
    was: str
    now: str
    head: int
    tail: int
    middle: str

    @classmethod
    def of(cls, name: str, was: bytes | None, now: bytes | None) -> Step:
        """Return the change from one content to another; None means no file."""
        old, new = was or b"", now or b""
        head = alike(old, new)
        tail = alike(old[head:][::-1], new[head:][::-1])
        middle = base64.b64encode(old[head : len(old) - tail]).decode()
        return cls(name, digest_of(was), digest_of(now), head, tail, middle)

    def undone(self, content: bytes | None) -> bytes | None:
        """Return the content before, given the content after."""
        if self.was == NO_FILE:
            return None
        new = content or b""
        return new[: self.head] + base64.b64decode(self.middle) + new[len(new) - self.tail :]


class Journal:
    """Make changes to several files as one: all stay, or none.

    Each change is in the journal, on disk, before it is made; the journal goes after the last. One found later was left
    by a killed save, whose changes are taken back, except in files changed since.
    """

    def __init__(self, corrections: Path, places: Iterable[tuple[str, str]] = ()) -> None:
        """Name the journal, which lies beside the list.

        corrections: real path of the list, which a save changes last.
        places: (folder, ending of names) that it may restore besides the list's folder; no others, as a journal can
            come with a stranger's photos.
        """
        self.corrections = corrections
        self.path = corrections.with_name(f".capcli-{zlib.crc32(os.fsencode(corrections.name)):08x}.journal")
        everywhere = (os.fspath(corrections.parent), ""), *places
        self.places = [(os.path.realpath(folder), ending) for folder, ending in everywhere]
        self.folders: set[Path] = set()  # that changed
        self.file: BinaryIO | None = None

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Take the block's changes to files back if it raises. Raises OSError, with nothing changed."""
        token = replacing.set(self.note)
        try:
            yield
            for folder in self.folders:
                sync_folder(folder)
            self.end()
        except BaseException:
            replacing.reset(token)
            self.take_back()
            raise
        replacing.reset(token)

    def note(self, path: Path, new: Path | None) -> None:
        """Record that a file is about to change.

        path: real path.
        new: the file that replaces it, synced on return; None for removal.

        Raises OSError.
        """
        if new is not None:
            with open(new, "r+b") as file:
                os.fsync(file.fileno())
        step = Step.of(self.name(path), read(path), None if new is None else read(new))
        with errors_name(self.path):
            if self.file is None:
                self.file = open(self.path, "xb")  # noqa: SIM115 (end() closes it)
                sync_folder(self.path.parent)
            self.file.write(f"\n{json.dumps(asdict(step))}\n".encode())  # a full disk may have cut off the line before
            self.file.flush()
            os.fsync(self.file.fileno())
        self.folders.add(path.parent)

    def end(self) -> None:
        """Remove the journal, if any: the changes stay. Raises OSError."""
        self.close()
        self.folders.clear()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
            sync_folder(self.path.parent)

    def close(self) -> None:
        if self.file is not None:
            with contextlib.suppress(OSError):  # a failed write was reported when it happened
                self.file.close()
            self.file = None

    def take_back(self) -> list[str]:
        """Undo an unfinished save; return a line for each file left as it is.

        Raises OSError; the journal then stays for another try.
        """
        self.close()
        steps = self.steps()
        of_list = [step for step in steps if step.name == self.corrections.name]
        if of_list and digest_of(read(self.corrections)) not in (of_list[-1].was, of_list[-1].now):
            steps = []  # the list changes last, so the save was finished, and somebody has gone on from there
        by_path: dict[str, list[Step]] = {}
        for step in steps:
            by_path.setdefault(os.path.realpath(self.path.parent / step.name), []).append(step)
        left = []
        for path, changes in by_path.items():
            if not self.may_change(path):
                left.append(f"{path}: not a file of the folder; left as it is")
                continue
            content = there = read(path)
            for step in reversed(changes):
                if digest_of(content) == step.now:
                    content = step.undone(content)
            if content != there:
                put(path, content)
            elif digest_of(content) != changes[0].was:
                left.append(f"{path}: changed since; left as it is")
        self.end()
        return left

    def may_change(self, path: str) -> bool:
        """Return whether a save may have changed the file at this real path."""
        inside = any(Path(path).is_relative_to(folder) and path.endswith(ending) for folder, ending in self.places)
        return inside and (os.path.isfile(path) or not os.path.exists(path))

    def steps(self) -> list[Step]:
        """Return the journal's steps; none without a journal. Raises OSError.

        Skips what does not parse: a half-written last line, or a stranger's.
        """
        try:
            if not stat.S_ISREG(os.lstat(self.path).st_mode):
                raise OSError(errno.EINVAL, "not a regular file; remove it", os.fspath(self.path))
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [step for step in map(step_in, lines) if step is not None]

    def name(self, path: Path) -> str:
        """Return a file's name in the journal, relative so that the folder can be moved."""
        with contextlib.suppress(ValueError):  # on another drive
            return os.path.relpath(path, self.path.parent)
        return os.fspath(path)


def step_in(line: bytes) -> Step | None:
    """Return the step in a line of a journal, or None."""
    try:
        return step_of(json.loads(line))
    except (ValueError, RecursionError):
        return None


def step_of(values: Any) -> Step | None:
    """Return the step that decoded JSON holds, or None."""
    try:
        step = Step(**values)
        texts = all(isinstance(text, str) for text in (step.name, step.was, step.now, step.middle))
        numbers = all(type(number) is int and number >= 0 for number in (step.head, step.tail))
        base64.b64decode(step.middle)
    except (ValueError, TypeError):
        return None
    return step if texts and numbers and "\0" not in step.name else None


def alike(one: bytes, other: bytes) -> int:
    """Return the length of two contents' common beginning."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def read(path: str | os.PathLike[str]) -> bytes | None:
    """Return a file's content, None without one. Raises OSError, also for a pipe or device."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        return Path(path).read_bytes()
    return None


def put(path: str, content: bytes | None) -> None:
    """Restore a file's content; None removes it. Raises OSError, also if it must not be changed."""
    try:
        original(path)
    except UntouchableError as error:
        raise OSError(errno.EPERM, str(error), path) from None
    if content is None:
        if (tell := replacing.get()) is not None and os.path.exists(path):
            tell(Path(path), None)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_folder(os.path.dirname(path))
        return
    like = Path(path) if os.path.exists(path) else None
    write_whole(Path(path), content, like=like, keep_times=like is not None)


def digest_of(content: bytes | None) -> str:
    """Return a content's digest; NO_FILE for None."""
    return NO_FILE if content is None else hashlib.sha256(content).hexdigest()
