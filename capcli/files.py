"""Writing files that are never half written: renamed into place, or grown by whole lines."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from capcli.locks import LOCK_TIMEOUT, NoLocksError, claim, claim_temporary, defer_signals, remove

# Seconds to wait for a file that another run locks only to replace it, such as a sidecar or an image. A file locked for
# all of a run is waited for much less, LOCK_TIMEOUT, as that run will not end soon.
REPLACE_TIMEOUT = 10.0
CHANGED = "made or changed by another program meanwhile; left as it is, the new one is beside it with -new in its name"
LOST = "deleted, replaced or cut short by another program while this run wrote to it"
OF_OTHERS = "belongs to another user or group, from whom it would be taken; left as it is"

# Called with each file that a WholeFile is about to replace, and the complete new file (None for one to be removed), so
# that a caller can undo it. It may refuse, by an OSError.
replacing: ContextVar[Callable[[Path, Path | None], object] | None] = ContextVar("replacing", default=None)


class OutputError(Exception):
    """Report a file that cannot be written, which ends a run; str() is one line with path and reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str | OSError) -> None:
        """Make the message.

        path: the file, or a name for it.
        reason: an OSError gives the system's message.
        """
        self.errno = reason.errno if isinstance(reason, OSError) else None
        if isinstance(reason, OSError):
            reason = (reason.strerror or str(reason)).lower()
        super().__init__(f"{os.fspath(path)}: {reason}")

    @classmethod
    @contextlib.contextmanager
    def about(cls, path: str | os.PathLike[str]) -> Iterator[None]:
        """Turn an OSError, except for a closed pipe, into an OutputError about this file."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cls(path, error) from None


def write_whole(
    path: Path, content: bytes, durable: bool = True, like: Path | None = None, keep_times: bool = False
) -> None:
    """Write a file completely, or leave the old one.

    durable, like, keep_times: see WholeFile.

    Raises OSError with the file's name.
    """
    with WholeFile(path, durable, like, keep_times, REPLACE_TIMEOUT) as file:
        file.write_bytes(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files completely, or leave them all as they were on a full disk.

    All are written before the first is renamed, in order.

    Raises OSError with the file's name.
    """
    with contextlib.ExitStack() as begun:
        files = []
        for path, content in contents.items():
            file = WholeFile(path, timeout=REPLACE_TIMEOUT)
            begun.callback(file.discard)  # does nothing to a file already in place
            file.write_bytes(content)
            with errors_name(path):
                file.file.flush()
            files.append(file)
        for file in files:
            file.close()


@contextlib.contextmanager
def errors_name(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make OSErrors in the block name this file, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Wait until a folder's names are on disk, so that a new file survives a power cut; not on Windows."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_writable(folder: str) -> bool:
    """Return whether files can probably be put into a folder, by its permissions.

    folder: may not exist yet; empty for the working directory.
    """
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.access(folder or os.curdir, os.W_OK | os.X_OK) and os.path.isdir(folder or os.curdir)


class OutputFile(Protocol):
    """Receive a run's output. All methods but discard() raise OSError."""

    @property
    def path(self) -> str | os.PathLike[str]:
        """Return the name for messages."""

    def write(self, text: str, /) -> object:
        """Add text; surrogate escapes, from file names that are not UTF-8, become the bytes they stand for."""

    def flush(self) -> object:
        """Make written text visible to others."""

    def close(self) -> None:
        """Complete the file."""

    def discard(self) -> None:
        """Close the file without completing it."""


@contextlib.contextmanager
def discarding(file: OutputFile) -> Iterator[None]:
    """Discard a file if the block raises."""
    try:
        yield
    except BaseException:
        file.discard()
        raise


class WholeFile:
    """Write a file under a temporary name; close() puts it in place of the old one.

    While it is open no other run can write to the path, so what was read from the old file stays true. The old file
    stays if a `with` block raises, or nothing was written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durable: bool = True,
        like: Path | None = None,
        keep_times: bool = False,
        timeout: float = LOCK_TIMEOUT,
    ) -> None:
        """Make the temporary file.

        path: the final one.
        durable: whether close() waits until the file is on disk, safe from a power cut.
        like: file whose permissions, extended attributes, owner and group to copy; None takes defaults.
        keep_times: whether to copy its times too.
        timeout: seconds to wait for another run's writing.

        Raises OSError with the file's name; errno is EBUSY if another run still writes, EPERM if owner and group cannot
        be copied.
        """
        self.path, self.durable, self.like, self.keep_times = Path(path), durable, like, keep_times
        self.has_begun = False
        mode = 0o666 if like is None else 0o600  # a private file must not be readable while written
        with errors_name(self.path), contextlib.ExitStack() as undo:
            with defer_signals():
                self.temporary, descriptor = claim_temporary(self.path, mode, timeout)
                undo.callback(remove, descriptor, self.temporary)
            if like is not None:
                copy_owner(like, self.temporary)
            self.claims = [descriptor]
            with contextlib.suppress(FileNotFoundError, PermissionError, NoLocksError):
                if self.path.is_file():  # another run may have it open as a GrowingFile
                    self.claims.append(claim(os.path.realpath(self.path), os.O_RDONLY, timeout=timeout))
            self.file = open(os.dup(descriptor), "wb")  # noqa: SIM115
            self.before = stamp_of(self.path)
            undo.pop_all()

    def write(self, text: str) -> None:
        """Add text."""
        self.write_bytes(text.encode("utf-8", "surrogateescape"))

    def write_bytes(self, content: bytes) -> None:
        """Add bytes. Raises OSError with the file's name."""
        self.has_begun = True
        with errors_name(self.path):
            self.file.write(content)

    def flush(self) -> None:
        """Do nothing: the file is invisible before close()."""

    def close(self) -> None:
        """Put the complete file in place. Raises OSError with the file's name; the old one then stays.

        With errno EEXIST, another program made or changed that one meanwhile; then both are kept.
        """
        if not self.has_begun:
            self.discard()
            return
        with discarding(self), errors_name(self.path):
            self.file.flush()
            if self.durable:
                os.fsync(self.file.fileno())
            self.file.close()
            if self.like is not None:
                copy_attributes(self.like, self.temporary)
                if not self.keep_times:
                    os.utime(self.temporary)
            if (tell := replacing.get()) is not None:
                tell(self.path, self.temporary)
            if sys.platform == "win32":  # Windows cannot rename an open file
                self.release()
            if stamp_of(self.path) not in (None, self.before):
                place = self.path
                while place.exists():
                    place = place.with_name(f"{place.stem}-new{place.suffix}")
                os.replace(self.temporary, place)
                raise OSError(errno.EEXIST, CHANGED)
            os.replace(self.temporary, self.path)
        self.release()

    def discard(self) -> None:
        """Remove the temporary file, leaving the old one."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            if self.claims:
                remove(self.claims.pop(0), self.temporary)
        self.release()

    def release(self) -> None:
        """Let other runs write to the path."""
        while self.claims:
            os.close(self.claims.pop())

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Return a stamp that changes with a file's content; None if there is no regular file."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
    return None


def copy_owner(source: Path, target: Path) -> None:
    """Copy a file's owner and group. Raises OSError, with errno EPERM if not allowed."""
    old = os.stat(source)
    with contextlib.suppress(OSError, AttributeError):  # Windows has no such owners
        os.chown(target, old.st_uid, old.st_gid)
    new = os.stat(target)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        raise OSError(errno.EPERM, OF_OTHERS)


def copy_attributes(source: Path, target: Path) -> None:
    """Copy a file's permissions, times and extended attributes, where file managers keep tags and comments.

    Raises OSError.
    """
    shutil.copystat(source, target)  # leaves extended attributes out on macOS
    if sys.platform == "darwin":
        import ctypes

        acl_and_attributes = 1 << 0 | 1 << 2  # COPYFILE_ACL, COPYFILE_XATTR of copyfile.h
        ctypes.CDLL(None).copyfile(os.fsencode(source), os.fsencode(target), None, acl_and_attributes)


class LockedFolder:
    """Keep other runs from writing into a folder until close()."""

    def __init__(self, path: Path) -> None:
        """Lock the folder, made if missing.

        Raises OSError with the folder's name; errno is EBUSY if another run writes into it.
        """
        self.path, self.made = path, not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        with errors_name(path):
            self.lock = WholeFile(path / ".capcli")  # never written

    def close(self) -> None:
        """Unlock the folder; if it was made here and is empty, remove it."""
        self.lock.discard()
        if self.made:
            with contextlib.suppress(OSError):  # it is not empty
                self.path.rmdir()


class GrowingFile:
    """Append whole lines to a file: flush() writes all since the last flush, or none.

    No other run can write to the file until it is closed. A new file without lines is removed again.
    """

    def __init__(self, path: str, replace: bool = False) -> None:
        """Open the file.

        path: a file, which may not exist yet, a pipe or a device.
        replace: whether the first lines replace the old content.

        Raises OSError, with errno EBUSY if another run writes to the file.
        """
        self.path, self.replace = path, replace
        self.pending: list[str] = []
        self.last = b""  # last lines written
        self.real_path = os.path.realpath(path)
        self.made = not os.path.exists(path)
        self.open()

    def open(self) -> None:
        """Open and lock the file. Raises OSError, with errno EBUSY if another run writes to it."""
        self.regular = self.made or os.path.isfile(self.path)
        if not self.regular:  # a pipe or a device
            self.file = open(self.path, "wb", buffering=0)  # noqa: SIM115 (close() does)
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        with errors_name(self.path), contextlib.ExitStack() as opening:
            # Without permission to make files here, no other run can replace this one.
            with contextlib.suppress(PermissionError), defer_signals():
                # Holding the temporary file keeps other runs' WholeFiles from replacing this one.
                temporary, descriptor = claim_temporary(Path(self.real_path))
                opening.callback(remove, descriptor, temporary)
            try:
                self.file = open(claim(self.real_path, flags), "ab", buffering=0)  # noqa: SIM115
            except NoLocksError:
                self.file = open(self.real_path, "a+b", buffering=0)  # noqa: SIM115

    def write(self, text: str) -> None:
        """Add whole lines for the next flush."""
        self.pending.append(text)

    def flush(self) -> None:
        """Write all pending lines, or none. Raises OSError.

        Also if earlier lines are gone, as no later run would find these either.
        """
        lines = "".join(self.pending).encode("utf-8", "surrogateescape")
        self.pending.clear()
        if (lines or self.last) and not self.is_there():
            raise OSError(errno.ESTALE, LOST, os.fspath(self.path))
        end = os.fstat(self.file.fileno()).st_size
        if self.replace and lines:
            self.replace = False
            if end:
                self.rewrite([lines])
                self.last = lines[-4096:]
                return
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                self.file.truncate(end)  # a full disk may have taken half a line; a pipe cannot be truncated
            raise
        self.last = lines[-4096:] or self.last

    def is_there(self) -> bool:
        """Return whether the file is still at its path and ends with the last lines written; pipes and devices are."""
        if not self.regular:
            return True
        descriptor = self.file.fileno()
        try:
            os.lseek(descriptor, -len(self.last), os.SEEK_END)  # writes go to the end all the same
            there = os.path.samestat(os.fstat(descriptor), os.stat(self.real_path))
            return there and os.read(descriptor, len(self.last)) == self.last
        except OSError:
            return False

    def rewrite(self, pieces: Iterable[bytes]) -> None:
        """Replace the file's content, and go on appending.

        pieces: new content, in order.

        Raises OSError, leaving the old content.
        """
        self.file.close()
        with errors_name(self.path), WholeFile(self.real_path, like=Path(self.real_path)) as whole:
            for piece in pieces:
                whole.write_bytes(piece)
        self.open()

    def close(self) -> None:
        """Write pending lines and close the file. Raises OSError."""
        try:
            self.flush()
        finally:
            self.release()

    def discard(self) -> None:
        """Close the file, dropping pending lines."""
        with contextlib.suppress(OSError):
            self.release()

    def release(self) -> None:
        """Close the file; if it was made here and is empty, remove it. Raises OSError."""
        if self.file.closed:
            return
        ours = None
        if self.made and self.is_there() and os.fstat(self.file.fileno()).st_size == 0:
            ours = os.dup(self.file.fileno())
        self.file.close()
        if ours is not None:
            remove(ours, self.real_path)
