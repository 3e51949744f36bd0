"""Files that are whole at every moment: written beside and renamed, or growing by whole lines."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from capcli.locks import PATIENCE, NoLocksError, claim, claim_temporary, remove, undisturbed

MOMENT = 10.0  # seconds that a file is waited for which others have for moments only: a sidecar, an image


class OutputError(Exception):
    """A file that cannot be written, which ends a run; str() is one line with the path and the reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str | OSError) -> None:
        if isinstance(reason, OSError):
            reason = (reason.strerror or str(reason)).lower()
        super().__init__(f"{os.fspath(path)}: {reason}")

    @classmethod
    @contextlib.contextmanager
    def about(cls, path: str | os.PathLike[str]) -> Iterator[None]:
        """Turn an OSError into an OutputError about this file, but for a closed pipe."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cls(path, error) from None


def write_whole(
    path: Path, content: bytes, durable: bool = True, like: Path | None = None, keep_times: bool = False
) -> None:
    """Write a file whole or leave the old one as it was: a temporary file beside it, then a rename.

    durable: wait until the disk has it, so that it survives a power cut too. like: take this file's permissions,
    extended attributes and, where allowed, its owner. keep_times: and its times. Raises OSError naming the file.
    """
    with WholeFile(path, durable, like, keep_times, MOMENT) as file:
        file.write_bytes(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files whole, or leave all of them as they were where the disk is full: temporary files first, then renames.

    Raises OSError naming the file.
    """
    with contextlib.ExitStack() as begun:
        files = []
        for path, content in contents.items():
            file = WholeFile(path, patience=MOMENT)
            begun.callback(file.discard)  # of no effect on those in their place
            file.write_bytes(content)
            with naming(path):
                file.file.flush()
            files.append(file)
        for file in files:
            file.close()


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An OSError names this file, and not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def is_writable(folder: str) -> bool:
    """Return whether files can be put into a folder, there or to be made, as far as that can be known before it is
    tried; an empty path is the working directory."""
    while folder and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.access(folder or os.curdir, os.W_OK | os.X_OK) and os.path.isdir(folder or os.curdir)


class OutputFile(Protocol):
    """What a run writes to. Everything raises OSError but discard()."""

    @property
    def path(self) -> str | os.PathLike[str]:
        """For messages."""

    def write(self, text: str, /) -> object:
        """Add text; undecodable parts of file names come out as the bytes they were."""

    def flush(self) -> object:
        """Let others see what was written."""

    def close(self) -> None:
        """Complete it."""

    def discard(self) -> None:
        """Let go of it as it is."""


@contextlib.contextmanager
def discarding(file: OutputFile) -> Iterator[None]:
    """Let go of a file when what is done with it fails."""
    try:
        yield
    except BaseException:
        file.discard()
        raise


class WholeFile:
    """A file under a temporary name until close(), which puts it in its place.

    As long as it is open no other run can write to this place: what was read there is still true when it is replaced.
    Leaving `with` by an error drops it, and so does closing it without having written anything.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        durable: bool = True,
        like: Path | None = None,
        keep_times: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        """like: a file whose permissions, extended attributes and, where allowed, owner it gets; keep_times: and its
        times. patience: seconds to wait for another run that writes it. Raises OSError naming the file."""
        self.path, self.durable, self.like, self.keep_times = Path(path), durable, like, keep_times
        self.begun = False
        mode = 0o666 if like is None else 0o600  # what is private stays so while it is written
        with naming(self.path), contextlib.ExitStack() as undo:
            with undisturbed():
                self.temporary, descriptor = claim_temporary(self.path, mode, patience)
                undo.callback(remove, descriptor, self.temporary)
            self.claims = [descriptor]
            with contextlib.suppress(FileNotFoundError, PermissionError, NoLocksError):
                if self.path.is_file():  # which may be growing
                    self.claims.append(claim(os.path.realpath(self.path), os.O_RDONLY, patience=patience))
            self.file = open(os.dup(descriptor), "wb")  # noqa: SIM115
            undo.pop_all()

    def write(self, text: str) -> None:
        """Add text."""
        self.write_bytes(text.encode("utf-8", "surrogateescape"))

    def write_bytes(self, content: bytes) -> None:
        """Add bytes. Raises OSError naming the file."""
        self.begun = True
        with naming(self.path):
            self.file.write(content)

    def flush(self) -> None:
        """Nobody sees the file before close()."""

    def close(self) -> None:
        """Complete the file and put it in its place. Raises OSError naming the file, and leaves what was there."""
        if not self.begun:
            self.discard()
            return
        with discarding(self), naming(self.path):
            self.file.flush()
            if self.durable:
                os.fsync(self.file.fileno())
            self.file.close()
            if self.like is not None:
                old = os.stat(self.like)
                with contextlib.suppress(OSError, AttributeError):
                    os.chown(self.temporary, old.st_uid, old.st_gid)
                copy_attributes(self.like, self.temporary)
                if not self.keep_times:
                    os.utime(self.temporary)
            if sys.platform == "win32":  # which renames nothing that is open
                self.release()
            os.replace(self.temporary, self.path)
        self.release()

    def discard(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            if self.claims:
                remove(self.claims.pop(0), self.temporary)
        self.release()

    def release(self) -> None:
        """Let others write to this place."""
        while self.claims:
            os.close(self.claims.pop())

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def copy_attributes(source: Path, target: Path) -> None:
    """Give a file the permissions, times and extended attributes of another: tags and comments of file managers are
    such. Raises OSError."""
    shutil.copystat(source, target)  # leaves extended attributes out on macOS
    if sys.platform == "darwin":
        import ctypes

        acl_and_attributes = 1 << 0 | 1 << 2  # COPYFILE_ACL, COPYFILE_XATTR of copyfile.h
        ctypes.CDLL(None).copyfile(os.fsencode(source), os.fsencode(target), None, acl_and_attributes)


class LockedFolder:
    """A folder that no other run writes into until close()."""

    def __init__(self, path: Path) -> None:
        """Make the folder where there is none. Raises OSError naming it."""
        self.path, self.made = path, not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        with naming(path):
            self.lock = WholeFile(path / ".capcli")  # never written

    def close(self) -> None:
        """Let others write into the folder; one that was made for nothing goes."""
        self.lock.discard()
        if self.made:
            with contextlib.suppress(OSError):  # there is something in it
                self.path.rmdir()


class GrowingFile:
    """A file that grows by whole lines: what was written reaches it in one piece at flush().

    It is this run's alone until it is closed. Where it was absent, and no line came, it is absent again.
    """

    def __init__(self, path: str, replace: bool = False) -> None:
        """replace: what is there already goes when the first lines come. Raises OSError."""
        self.path, self.replace = path, replace
        self.pending: list[str] = []
        self.place = os.path.realpath(path)
        self.made = not os.path.exists(path)
        self.open()

    def open(self) -> None:
        """Raises OSError, where another run has it too."""
        if not (self.made or os.path.isfile(self.path)):  # a pipe or a device
            self.file = open(self.path, "wb", buffering=0)  # noqa: SIM115 (close() does)
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        with naming(self.path), contextlib.ExitStack() as door:
            # Without permission nobody else can put a file in its place either.
            with contextlib.suppress(PermissionError), undisturbed():
                # Another run may be about to put a whole one here.
                temporary, descriptor = claim_temporary(Path(self.place))
                door.callback(remove, descriptor, temporary)
            try:
                self.file = open(claim(self.place, flags), "ab", buffering=0)  # noqa: SIM115
            except NoLocksError:
                self.file = open(self.place, "ab", buffering=0)  # noqa: SIM115

    def write(self, text: str) -> None:
        """Whole lines, for the next flush."""
        self.pending.append(text)

    def flush(self) -> None:
        """Raises OSError; what could not be written whole is then not in the file."""
        lines = "".join(self.pending).encode("utf-8", "surrogateescape")
        self.pending.clear()
        end = os.fstat(self.file.fileno()).st_size
        if self.replace and lines:
            self.replace = False
            if end:
                self.rewrite([lines])
                return
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except BaseException:
            with contextlib.suppress(OSError):
                self.file.truncate(end)  # a full disk takes half a line; no pipe can be cut
            raise

    def rewrite(self, pieces: Iterable[bytes]) -> None:
        """Put a file of these pieces in place of what is there, and let that one grow. Raises OSError and leaves what
        was there."""
        self.file.close()
        with naming(self.path), WholeFile(self.place, like=Path(self.place)) as whole:
            for piece in pieces:
                whole.write_bytes(piece)
        self.open()

    def close(self) -> None:
        """Raises OSError."""
        try:
            self.flush()
        finally:
            self.let_go()

    def discard(self) -> None:
        """Leave the file as it is."""
        with contextlib.suppress(OSError):
            self.let_go()

    def let_go(self) -> None:
        """Close the file, and remove it if it is empty as it was when we made it. Raises OSError."""
        if self.file.closed:
            return
        ours = None
        if self.made and os.fstat(self.file.fileno()).st_size == 0:
            ours = os.dup(self.file.fileno())
        self.file.close()
        if ours is not None:
            remove(ours, self.place)
