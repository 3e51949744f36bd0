"""Lines for a person: on stderr, which is where everything but captions goes, and what may reach a terminal."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import NoReturn

import typer

# The control characters of ISO/IEC 6429, and undecodable bytes of file names that an 8-bit terminal takes for such.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\udc80-\udc9f]")
CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f]")


def say(message: object) -> None:
    """Write one line on stderr, whatever a file name in it contains; what stderr does not take is lost."""
    with contextlib.suppress(OSError):  # its disk is full or its terminal closed, which is no reason to stop captioning
        print(CONTROL.sub(as_escape, f"capcli: {message}"), file=sys.stderr, flush=True)


def harmless(text: str) -> str:
    """Return lines in which nothing but line ends and tabs commands a terminal: the rest as `\\x1b`."""
    return CONTROL_IN_LINES.sub(as_escape, text)


def as_escape(found: re.Match[str]) -> str:
    """Return a character as Python would write it."""
    return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(found[0], f"\\x{ord(found[0]) & 0xFF:02x}")


def show_lines(text: str) -> None:
    """Write lines to stdout, harmless where that is a terminal."""
    print(harmless(text) if sys.stdout.isatty() else text)


def fail(message: object, status: int = 2) -> NoReturn:
    """Say why on one line of stderr, and exit."""
    say(message)
    raise typer.Exit(status)
