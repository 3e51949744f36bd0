"""Messages for people: one line each on stderr, and nothing that could control their terminal."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from capcli.files import OutputError

# ISO/IEC 6429's control characters, and the undecodable bytes of file names that an 8-bit terminal would read as such.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\udc80-\udc9f]")
CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f]")


def say(message: object) -> None:
    """Print a one-line message on stderr, whatever file names it holds; lost if stderr is closed."""
    with contextlib.suppress(OSError):  # a full disk or a closed terminal behind stderr must not stop captioning
        print(CONTROL.sub(as_escape, f"capcli: {message}"), file=sys.stderr, flush=True)


def escape_controls(text: str) -> str:
    """Escape control characters, such as `\\x1b`, but not line ends and tabs."""
    return CONTROL_IN_LINES.sub(as_escape, text)


def as_escape(found: re.Match[str]) -> str:
    """Return a matched character as a Python escape sequence."""
    return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}.get(found[0], f"\\x{ord(found[0]) & 0xFF:02x}")


def one_line(text: str) -> str:
    """Escape the line ends and tabs that names may hold as `\\n`, `\\r` and `\\t`."""
    return re.sub("[\t\n\r]", as_escape, text)


def show_lines(text: str) -> None:
    """Print lines on stdout; on a terminal, with control characters escaped."""
    print(escape_controls(text) if sys.stdout.isatty() else text)


def show_change(path: str, place: str, old: str, new: str) -> None:
    """Print what changes of an image, as diff does."""
    lines = [*(f"- {line}" for line in old.splitlines()), *(f"+ {line}" for line in new.splitlines())]
    show_lines("\n".join([f"{one_line(path)}: {one_line(place)}", *lines]))


def absent(path: str, what: str = "file or folder") -> str:
    """Return the line about a missing path. what: it should have been."""
    if path.startswith(("http://", "https://")):
        return f"{path}: URLs are not fetched; curl -s URL | capcli caption -"
    return f"{path}: no such {what}"


def fail(message: object, status: int = 2) -> NoReturn:
    """Print a one-line message on stderr, and exit. status: 2 for a usage error."""
    say(message)
    raise typer.Exit(status)


def fail_to_open(error: OutputError) -> NoReturn:
    """Print why an output cannot be opened, and exit: status 1 if the disk is at fault, 2 if another would do."""
    from capcli.outputs.sink import FATAL_ERRORS

    fail(error, 1 if error.errno in FATAL_ERRORS else 2)
