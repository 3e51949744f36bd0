"""The standard streams as a program may find them: in another encoding, closed, or full."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any, TextIO

from capcli.cli.messages import escape_controls, say

STANDARD_OUTPUT = "standard output"


def open_streams() -> None:
    """Make sure that the three streams are there, and that their text is UTF-8."""
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
    """Standard output, whose errors say so."""

    def write(self, content: Any, /) -> int:
        """Write what there is room for. Raises OSError naming standard output."""
        try:
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from None


def take_descriptor(descriptor: int, how: int) -> None:
    """Keep a closed stream's number from the next file that is opened, which would get what is printed.

    Standard output is opened for reading, so that printing captions nowhere is the error that it is.
    """
    opened = os.open(os.devnull, how)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)


def flush_streams() -> bool:
    """Whether standard output took all that was printed, or its reader wanted no more; says so if not."""
    try:
        sys.stderr.flush()
    except OSError:  # there is nowhere to say it
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
    """Print one line about a file or a stream that does not take what is written."""
    if name == STANDARD_OUTPUT:
        redirect_to_nowhere(sys.stdout)
    say(f"{name}: {(error.strerror or str(error)).lower()}")


def redirect_to_nowhere(stream: TextIO) -> None:
    """Let nothing more go to where nothing more is taken: the interpreter would complain when it flushes it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class StandardOutput:
    """sys.stdout as an output, which outlives its run."""

    path = STANDARD_OUTPUT

    def __init__(self) -> None:
        self.terminal = sys.stdout.isatty()

    def write(self, text: str) -> None:
        """Add text; no file name in it commands a terminal."""
        sys.stdout.write(escape_controls(text) if self.terminal else text)

    def flush(self) -> None:
        """Let others see it."""
        sys.stdout.flush()

    def close(self) -> None:
        """Let others see it."""
        sys.stdout.flush()

    def discard(self) -> None:
        """Let nothing more go to where nothing more is taken."""
        redirect_to_nowhere(sys.stdout)


class NoOutput:
    """An output for captions that nobody asked to see, or that only might be written. path: of that output."""

    def __init__(self, path: str = "") -> None:
        self.path = path

    def write(self, text: str) -> None:
        """Forget it."""

    def flush(self) -> None:
        """There is nothing."""

    def close(self) -> None:
        """There is nothing."""

    def discard(self) -> None:
        """There is nothing."""
