"""Locks: a file belongs to one run at a time, and the system frees it however that run ends."""

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

IN_USE = "in use by another run of capcli; wait until that run ends, or stop it"
TEMPORARY = re.compile(r"\.capcli-[0-9a-f-]+\.tmp")
LOCK_TIMEOUT = 1.0  # seconds to wait for another run's lock
RETRY_INTERVAL = 0.01  # seconds between attempts to lock a file
LOCKED_BYTE = 2**31 - 2  # far behind the content: on Windows nobody else could read a locked byte
EXTRA_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class NoLocksError(OSError):
    """Report a file system without locks, such as some network ones."""


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Hold back signals within the block, so that a file made there is sure to be noted for removal."""
    # A handler could raise between making and noting the file. Only the main thread has signals to hold back, as Python
    # runs their handlers there.
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
    """Try to lock an open file, and return whether it is locked, until it is closed or the process ends.

    Raises NoLocksError.
    """
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


def claim(path: str | os.PathLike[str], flags: int, mode: int = 0o666, timeout: float = LOCK_TIMEOUT) -> int:
    """Open and lock a file, and return its descriptor, which unlocks it when closed.

    flags: as for os.open; with O_EXCL, a dead run's file there is removed first.
    mode: permissions of a new file.
    timeout: seconds to wait for another run's lock.

    Raises OSError, with errno EBUSY if another run keeps its lock, and NoLocksError.
    """
    deadline = time.monotonic() + timeout
    while (descriptor := try_to_claim(path, flags, mode)) is None:
        if time.monotonic() >= deadline:
            raise OSError(errno.EBUSY, IN_USE, os.fspath(path))
        time.sleep(RETRY_INTERVAL)
    return descriptor


def try_to_claim(path: str | os.PathLike[str], flags: int, mode: int) -> int | None:
    """Return a file's descriptor, opened and locked; None if another run has it, or had a moment ago.

    path, flags, mode: see `claim`.

    Raises OSError and NoLocksError.
    """
    try:
        descriptor = os.open(path, flags | EXTRA_FLAGS, mode)
    except FileExistsError:
        remove_leftover(path)
        return None
    if is_ours(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def is_ours(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Lock a file, and return whether it is locked and still at path.

    Raises NoLocksError, after closing the descriptor.
    """
    try:
        # Whoever had the lock may have put another file there, except on Windows, where open files stay.
        return lock(descriptor) and (sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), os.stat(path)))
    except FileNotFoundError:
        return False
    except BaseException:
        os.close(descriptor)
        raise


def claim_temporary(path: Path, mode: int = 0o666, timeout: float = LOCK_TIMEOUT) -> tuple[Path, int]:
    """Make and lock a temporary file, to be renamed to path, and return its name and descriptor.

    All runs choose the same name, so only one at a time can have it.

    mode: permissions of the temporary file.
    timeout: seconds to wait for another run's writing.

    Raises OSError, with errno EBUSY if another run still writes.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    clear_leftovers(path.parent)
    # A checksum, as path's own name may be as long as names can be.
    name = f".capcli-{zlib.crc32(os.fsencode(path.name)):08x}"
    temporary = path.parent / f"{name}.tmp"
    try:
        return temporary, claim(temporary, flags, mode, timeout)
    except NoLocksError:
        # Without locks, a dead run's file looks like a living one's, so each run has a name of its own.
        temporary.unlink(missing_ok=True)
        temporary = path.parent / f"{name}-{os.urandom(4).hex()}.tmp"
        return temporary, os.open(temporary, flags | EXTRA_FLAGS, mode)


@functools.cache
def clear_leftovers(folder: Path) -> None:
    """Remove dead runs' temporary files from a folder, once per folder and process."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    remove_leftover(entry.path)


def remove_leftover(path: str | os.PathLike[str]) -> None:
    """Remove a temporary file, unless locked by a living run. Raises OSError and NoLocksError."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | EXTRA_FLAGS)
        if is_ours(descriptor, path):
            remove(descriptor, path)
        else:
            os.close(descriptor)


def remove(descriptor: int, path: str | os.PathLike[str]) -> None:
    """Remove a file we have locked, and close its descriptor. Raises OSError."""
    if sys.platform == "win32":
        os.close(descriptor)
        with contextlib.suppress(PermissionError):  # another run has it open, and will remove it
            os.unlink(path)
        return
    try:
        os.unlink(path)
    finally:
        os.close(descriptor)
