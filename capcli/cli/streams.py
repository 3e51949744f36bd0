"""The standard streams, which may be closed, full, or not in UTF-8."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, TextIO

from capcli.cli.messages import escape_controls, say

STANDARD_OUTPUT = "standard output"


def open_streams() -> None:
    """Make sure that all three streams exist, with stdout and stderr in UTF-8."""
    for descriptor, name, how in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:  # closed by whoever started us
            with contextlib.suppress(OSError):
                take_descriptor(descriptor, how)
                mode = "r" if descriptor == 0 else "w"
                setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    if not sys.stdout.isatty():  # a terminal's stays, as Windows has a special one
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(NamedOutput(1, "wb", closefd=False)))
    # File names are bytes: undecodable ones must come out unchanged, whatever the locale.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


class NamedOutput(io.FileIO):
    """Write to standard output, and name it in errors."""

    def write(self, content: Any, /) -> int:
        """Write bytes and return how many were taken. Raises OSError naming standard output."""
        try:
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


def take_descriptor(descriptor: int, how: int) -> None:
    """Occupy a closed stream's descriptor, or the next file opened would get it, and all that is printed.

    Standard output is opened for reading, so that printing stays an error.

    descriptor: 0 … 2.
    how: flags of `os.open`.
    """
    opened = os.open(os.devnull, how)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)


def flush_streams() -> bool:
    """Return whether stdout took all that its reader wanted; otherwise print a line."""
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
    """Print why a file or stream cannot be written."""
    if name == STANDARD_OUTPUT:
        redirect_to_nowhere(sys.stdout)
    say(f"{name}: {(error.strerror or str(error)).lower()}")


def redirect_to_nowhere(stream: TextIO) -> None:
    """Discard what a broken stream still holds; the interpreter would complain when flushing it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class StandardOutput:
    """Pass text on to sys.stdout, which stays open."""

    path = STANDARD_OUTPUT

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Add text; on a terminal, with control characters escaped."""
        sys.stdout.write(escape_controls(text) if self.terminal else text)

    def flush(self) -> None:
        sys.stdout.flush()

    def close(self) -> None:
        """Flush; stdout stays open."""
        sys.stdout.flush()

    def discard(self) -> None:
        """Discard unwritten text, and all printed later."""
        redirect_to_nowhere(sys.stdout)


class NoOutput:
    """Drop captions that nobody asked to see, or that a dry run does not make."""

    def __init__(self, path: str = "") -> None:
        """Stand in for an output. path: its name in messages; empty for none."""
        self.path = path

    def write(self, text: str) -> None:
        """Drop text."""

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing."""
