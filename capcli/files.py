"""Files that are whole at every moment: written beside and renamed, or growing by whole lines."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from capcli.messages import harmless


class OutputError(Exception):
    """A file that cannot be written, which ends a run; str() is one line with the path and the reason."""

    def __init__(self, path: str | os.PathLike[str], reason: str | OSError) -> None:
        if isinstance(reason, OSError):
            reason = (reason.strerror or str(reason)).lower()
        super().__init__(f"{os.fspath(path)}: {reason}")


def write_whole(
    path: Path, content: bytes, durable: bool = True, like: Path | None = None, keep_times: bool = False
) -> None:
    """Write a file whole or leave the old one as it was: a temporary file beside it, then a rename.

    durable: wait until the disk has it, so that it survives a power cut too. like: take this file's permissions,
    extended attributes and, where allowed, its owner. keep_times: and its times. Raises OSError naming the file.
    """
    with naming(path), WholeFile(path, durable, like, keep_times) as file:
        file.file.write(content)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files whole, or leave all of them as they were where the disk is full: temporary files first, then renames.

    Raises OSError naming the file.
    """
    with contextlib.ExitStack() as begun:
        files = []
        for path, content in contents.items():
            with naming(path):
                file = WholeFile(path)
                begun.callback(file.discard)  # of no effect on those in their place
                file.file.write(content)
                file.file.flush()
            files.append(file)
        for file in files:
            with naming(file.path):
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


class StandardOutput:
    """sys.stdout, which outlives its run."""

    path = "standard output"

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Add text; no file name in it commands a terminal."""
        sys.stdout.write(harmless(text) if self.terminal else text)

    def flush(self) -> None:
        """Let others see it."""
        sys.stdout.flush()

    def close(self) -> None:
        """Let others see it."""
        sys.stdout.flush()

    def discard(self) -> None:
        """Let nothing more go to where nothing more is taken: the interpreter would complain when it flushes it."""
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class WholeFile:
    """A file under a temporary name until close(), which puts it in its place; leaving `with` by an error drops it."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        durable: bool = True,
        like: Path | None = None,
        keep_times: bool = False,
    ) -> None:
        """like: a file whose permissions, extended attributes and, where allowed, owner it gets; keep_times: and its
        times. Raises OSError naming the file."""
        self.path, self.durable, self.like, self.keep_times = Path(path), durable, like, keep_times
        # Short, as the name it replaces may be as long as names can be.
        self.temporary = self.path.parent / f".capcli-{secrets.token_hex(4)}.tmp"
        mode = 0o666 if like is None else 0o600  # what is private stays so while it is written
        with naming(self.path):
            self.file = open(self.temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115

    def write(self, text: str) -> None:
        """Add text."""
        self.file.write(text.encode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        """Nobody sees the file before close()."""

    def close(self) -> None:
        """Complete the file and put it in its place. Raises OSError and leaves what was there."""
        try:
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
            os.replace(self.temporary, self.path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Forget it."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            os.unlink(self.temporary)

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


class GrowingFile:
    """A file that grows by whole lines: what was written reaches it in one piece at flush()."""

    def __init__(self, path: str, append: bool) -> None:
        """Raises OSError."""
        self.path = path
        self.file = open(path, "ab" if append else "wb", buffering=0)  # noqa: SIM115 (close() does)
        self.pending: list[str] = []

    def write(self, text: str) -> None:
        """Whole lines, for the next flush."""
        self.pending.append(text)

    def flush(self) -> None:
        """Raises OSError; what could not be written whole is then not in the file."""
        rest = memoryview("".join(self.pending).encode("utf-8", "surrogateescape"))
        self.pending.clear()
        end = self.file.tell() if self.file.seekable() else None
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError:
            if end is not None:
                with contextlib.suppress(OSError):
                    self.file.truncate(end)  # a full disk takes half a line
            raise

    def close(self) -> None:
        """Raises OSError."""
        try:
            self.flush()
        finally:
            self.file.close()

    def discard(self) -> None:
        """Leave the file as it is."""
        with contextlib.suppress(OSError):
            self.file.close()
