"""A journal of the files that a save changes, so that one that fails or is killed midway is taken back as a whole."""

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
    """Hold one change of one file, in a form that is small where most of the file stays.

    name: of the file, relative to the journal's folder where that can be.
    was: digest of what it was, NO_FILE if it was not there.
    now: digest of what it became, NO_FILE if it was removed.
    head, tail: how many bytes of its beginning and its end both have.
    middle: what was between these, in Base64.
    """

    name: str
    was: str
    now: str
    head: int
    tail: int
    middle: str

    @classmethod
    def of(cls, name: str, was: bytes | None, now: bytes | None) -> Step:
        """Return the change of a file's content; None is no file."""
        old, new = was or b"", now or b""
        head = alike(old, new)
        tail = alike(old[head:][::-1], new[head:][::-1])
        middle = base64.b64encode(old[head : len(old) - tail]).decode()
        return cls(name, digest_of(was), digest_of(now), head, tail, middle)

    def undone(self, content: bytes | None) -> bytes | None:
        """Return what a file was. content: what it became."""
        if self.was == NO_FILE:
            return None
        new = content or b""
        return new[: self.head] + base64.b64decode(self.middle) + new[len(new) - self.tail :]


class Journal:
    """Make the changes of several files one: all of them stay, or none.

    Before a file is changed the disk has a line about it, and the journal is removed when the last change is on the
    disk. One that is found was left by a save that was killed; what that had changed is made what it was. A file that
    somebody has changed since stays as it is.
    """

    def __init__(self, corrections: Path, places: Iterable[tuple[str, str]] = ()) -> None:
        """Name the journal, which lies beside the list.

        corrections: real path of the list, which a save changes last.
        places: folders, and how the names of files in them end, that a journal may be about besides the list's own
            folder. No other file is touched: a journal can come with a stranger's photos.
        """
        self.corrections = corrections
        self.path = corrections.with_name(f".capcli-{zlib.crc32(os.fsencode(corrections.name)):08x}.journal")
        everywhere = (os.fspath(corrections.parent), ""), *places
        self.places = [(os.path.realpath(folder), ending) for folder, ending in everywhere]
        self.folders: set[Path] = set()  # that changed
        self.file: BinaryIO | None = None

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Take all changes of files in the block back if it raises. Raises OSError, after which nothing is changed."""
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
        """Write down that a file is about to be changed.

        path: real path of the file.
        new: the file that takes its place, which is on the disk when this returns; None if the file is removed.

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
            self.file.write(f"\n{json.dumps(asdict(step))}\n".encode())  # a full disk may have cut off the one before
            self.file.flush()
            os.fsync(self.file.fileno())
        self.folders.add(path.parent)

    def end(self) -> None:
        """Remove the journal, if there is one: what was changed stays. Raises OSError."""
        self.close()
        self.folders.clear()
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
            sync_folder(self.path.parent)

    def close(self) -> None:
        """Close the journal, if it is open."""
        if self.file is not None:
            with contextlib.suppress(OSError):  # what could not be written was told then
                self.file.close()
            self.file = None

    def take_back(self) -> list[str]:
        """Make files what they were before a save that did not end; return a line for each that stays as it is.

        Raises OSError if that is not possible; the journal stays, so that it can be tried again.
        """
        self.close()
        steps = self.steps()
        of_list = [step for step in steps if step.name == self.corrections.name]
        if of_list and digest_of(read(self.corrections)) not in (of_list[-1].was, of_list[-1].now):
            steps = []  # the list is changed last, so everything was done, and somebody has gone on from there
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
        """Return whether a file, by its real path, is one that a save may have changed."""
        inside = any(Path(path).is_relative_to(folder) and path.endswith(ending) for folder, ending in self.places)
        return inside and (os.path.isfile(path) or not os.path.exists(path))

    def steps(self) -> list[Step]:
        """Return what is in the journal, nothing if there is none; its last line may be half written. Raises OSError.

        What is no line of a journal is left out, as it may be a stranger's.
        """
        try:
            if not stat.S_ISREG(os.lstat(self.path).st_mode):
                raise OSError(errno.EINVAL, "not a regular file; remove it", os.fspath(self.path))
            lines = self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [step for step in map(step_in, lines) if step is not None]

    def name(self, path: Path) -> str:
        """Return how the journal names a file, so that the folder can be moved before it is read."""
        with contextlib.suppress(ValueError):  # on another drive
            return os.path.relpath(path, self.path.parent)
        return os.fspath(path)


def step_in(line: bytes) -> Step | None:
    """Return what a line of a journal says, None if it is none."""
    try:
        values: dict[str, Any] = json.loads(line)
        step = Step(**values)
        texts = all(isinstance(text, str) for text in (step.name, step.was, step.now, step.middle))
        numbers = all(type(number) is int and number >= 0 for number in (step.head, step.tail))
        base64.b64decode(step.middle)
    except (ValueError, TypeError, RecursionError):
        return None
    return step if texts and numbers and "\0" not in step.name else None


def alike(one: bytes, other: bytes) -> int:
    """Return how many bytes two contents have in common from their beginnings."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def read(path: str | os.PathLike[str]) -> bytes | None:
    """Return a file's content, None if there is none. Raises OSError, also for a pipe or a device."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        return Path(path).read_bytes()
    return None


def put(path: str, content: bytes | None) -> None:
    """Make a file what it was; None removes it. Raises OSError, also for one that must not be changed."""
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
    """Return what identifies a content; NO_FILE for that of no file."""
    return NO_FILE if content is None else hashlib.sha256(content).hexdigest()
