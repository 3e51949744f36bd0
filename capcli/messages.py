"""Lines on stderr, which is where everything but captions goes."""

from __future__ import annotations

import sys


def say(message: object) -> None:
    """One line on stderr, whatever a file name in it contains."""
    text = "".join(c if c >= " " and not "\x7f" <= c <= "\x9f" else repr(c)[1:-1] for c in f"capcli: {message}")
    print(text, file=sys.stderr, flush=True)
