"""The standard streams, which a program may find closed, full, or in an encoding that is not UTF-8."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, TextIO

from capcli.cli.messages import escape_controls, say

STANDARD_OUTPUT = "standard output"


def open_streams() -> None:
    """Make sure that the three streams exist, and that stdout and stderr are in UTF-8."""
    for descriptor, name, how in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:  # closed by whoever started us
            with contextlib.suppress(OSError):
                take_descriptor(descriptor, how)
                mode = "r" if descriptor == 0 else "w"
                setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if not sys.stdout.isatty():  # a terminal's stays, as Windows has one of its own making
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(NamedOutput(1, "wb", closefd=False)))
    # File names are bytes: what cannot be decoded must come out as it went in, whatever the locale says.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


class NamedOutput(io.FileIO):
    """Write to standard output, with errors that name it."""

    def write(self, content: Any, /) -> int:
        """Write bytes and return how many were taken. Raises OSError with standard output as its file."""
        try:
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


def take_descriptor(descriptor: int, how: int) -> None:
    """Occupy the number of a closed stream: a file opened later would get it, and all that is printed.

    Standard output is opened for reading, so that printing captions to it stays an error.

    descriptor: the number, 0 … 2.
    how: as `os.open` takes it.
    """
    opened = os.open(os.devnull, how)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)


def flush_streams() -> bool:
    """Return whether standard output took all that its reader wanted; if not, print a line."""
    try:
        sys.stderr.flush()
    except OSError:  # nowhere to report it
        redirect_to_nowhere(sys.stderr)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        redirect_to_nowhere(sys.stdout)
    except OSError as error:
        say_lost(STANDARD_OUTPUT, error)
        return False
    return True


def say_lost(name: str, error: OSError) -> None:
    """Print a line about a file or stream that cannot be written to. name: of it. error: why not."""
    if name == STANDARD_OUTPUT:
        redirect_to_nowhere(sys.stdout)
    say(f"{name}: {(error.strerror or str(error)).lower()}")


def redirect_to_nowhere(stream: TextIO) -> None:
    """Discard what is left for a stream that takes no more; the interpreter would complain when it flushes it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class StandardOutput:
    """Pass text on to sys.stdout, which stays open."""

    path = STANDARD_OUTPUT

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Add text; on a terminal, control characters in file names are escaped."""
        sys.stdout.write(escape_controls(text) if self.terminal else text)

    def flush(self) -> None:
        """Make the text visible to its reader."""
        sys.stdout.flush()

    def close(self) -> None:
        """Make the text visible to its reader."""
        sys.stdout.flush()

    def discard(self) -> None:
        """Discard what has not been written, and whatever else is printed."""
        redirect_to_nowhere(sys.stdout)


class NoOutput:
    """Drop captions that nobody asked to see, or that a dry run does not make."""

    def __init__(self, path: str = "") -> None:
        """Stand in for an output. path: the one to name in messages; empty for none."""
        self.path = path

    def write(self, text: str) -> None:
        """Drop text."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""
