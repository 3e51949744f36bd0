"""Files that one run has for itself: locked by the system, which lets go of the lock however the run ends."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

TAKEN = "another run is writing it, or another option of this one"
TEMPORARY = re.compile(r"\.capcli-[0-9a-f-]+\.tmp")
PATIENCE = 1.0  # seconds that a file is waited for
TURN = 0.01  # seconds between two attempts
LOCKED_BYTE = 2**31 - 2  # of a file on Windows, whose locks keep others from reading too
BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class NoLocksError(OSError):
    """The file system knows no locks, as some network file systems do."""


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals wait until the block is left, so that what it makes is known to whoever has to undo it.

    A handler may raise between the making of a file and the note of it, and nobody would remove the file then. Only the
    main thread has anything to put off: Python runs handlers nowhere else.
    """
    before: dict[int, Any] = {}
    waiting: list[tuple[Any, ...]] = []
    try:
        with contextlib.suppress(ValueError):  # not the main thread
            for each in signal.valid_signals():
                handler = signal.getsignal(each)
                if callable(handler):
                    before[each] = handler
                    signal.signal(each, lambda *arguments: waiting.append(arguments))
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(ValueError):
                signal.signal(number, handler)
        for arguments in waiting:
            before[arguments[0]](*arguments)


def lock(descriptor: int) -> bool:
    """Whether an open file is ours alone now, until it is closed or this process ends. Raises NoLocksError."""
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise NoLocksError(error.errno, error.strerror) from None
    return True


def claim(path: str | os.PathLike[str], flags: int, mode: int = 0o666, patience: float = PATIENCE) -> int:
    """Open a file and lock it: a descriptor, whose closing gives it back.

    flags: as for os.open; with O_EXCL what a dead run left in the file's place is removed first. patience: seconds to
    wait for others. Raises OSError, of errno EBUSY where another keeps the file, and NoLocksError.
    """
    deadline = time.monotonic() + patience
    while (descriptor := try_to_claim(path, flags, mode)) is None:
        if time.monotonic() >= deadline:
            raise OSError(errno.EBUSY, TAKEN, os.fspath(path))
        time.sleep(TURN)
    return descriptor


def try_to_claim(path: str | os.PathLike[str], flags: int, mode: int) -> int | None:
    """The descriptor, or None where another has the file, or had it a moment ago. Raises OSError and NoLocksError."""
    try:
        descriptor = os.open(path, flags | BINARY, mode)
    except FileExistsError:
        remove_leftover(path)
        return None
    if is_ours(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def is_ours(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether the file at path, which was opened, is now ours alone. Raises NoLocksError, the descriptor closed."""
    try:
        # Windows moves and removes nothing that is open; elsewhere whoever had it may have put another in its place.
        return lock(descriptor) and (sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), os.stat(path)))
    except FileNotFoundError:
        return False
    except BaseException:
        os.close(descriptor)
        raise


def claim_temporary(path: Path, mode: int = 0o666, patience: float = PATIENCE) -> tuple[Path, int]:
    """Make the temporary file that what is to be at path is written to: its name and a descriptor.

    All runs give it the same name, so that only one of them has it. Raises OSError.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    clear_leftovers(path.parent)
    # Short, as the name of path may be as long as names can be.
    name = f".capcli-{zlib.crc32(os.fsencode(path.name)):08x}"
    temporary = path.parent / f"{name}.tmp"
    try:
        return temporary, claim(temporary, flags, mode, patience)
    except NoLocksError:
        # Nothing tells another run's file from a dead one's: everyone takes a name of its own.
        temporary.unlink(missing_ok=True)
        temporary = path.parent / f"{name}-{os.urandom(4).hex()}.tmp"
        return temporary, os.open(temporary, flags | BINARY, mode)


@functools.cache
def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files of dead runs from a folder, once in the life of this one."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    remove_leftover(entry.path)


def remove_leftover(path: str | os.PathLike[str]) -> None:
    """Remove a temporary file unless a living run has it. Raises OSError and NoLocksError."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | BINARY)
        if is_ours(descriptor, path):
            remove(descriptor, path)
        else:
            os.close(descriptor)


def remove(descriptor: int, path: str | os.PathLike[str]) -> None:
    """Remove a file that is ours, and give it back. Raises OSError."""
    if sys.platform == "win32":
        os.close(descriptor)
        with contextlib.suppress(PermissionError):  # another has opened it, and will remove it
            os.unlink(path)
        return
    try:
        os.unlink(path)
    finally:
        os.close(descriptor)
