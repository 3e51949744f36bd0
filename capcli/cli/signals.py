"""Ctrl-C, and the other ways in which a person or a system asks a run to end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

# A terminal's Ctrl-C; what systemd, SLURM and `kill` send; a closed terminal; the same on Windows.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Stop(SystemExit):
    """A run was ordered to end; its exit status is 128 and the signal's number, as in a shell."""

    code: int


class Interrupt:
    """In `with`, every such signal is an order to end; with patience the first one is a request."""

    number = 0  # of the signal that made the request

    def __init__(self, patience: bool = False) -> None:
        self.patience = patience
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            before = signal.getsignal(number)
            ours = isinstance(getattr(before, "__self__", None), Interrupt)
            if before in (signal.SIG_DFL, signal.default_int_handler) or ours:  # else someone decided, nohup for one
                with contextlib.suppress(ValueError):  # not the main thread: no signal comes here
                    signal.signal(number, self.handle)
                    self.before[number] = before
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler. Raises Stop."""
        if self.number or not self.patience:
            raise Stop(128 + number)
        self.number = number
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        with contextlib.suppress(OSError):  # not by sys.stderr, which may be in the middle of a line
            os.write(sys.stderr.fileno(), f"\ncapcli: stopping after this batch; {again} stops at once\n".encode())
