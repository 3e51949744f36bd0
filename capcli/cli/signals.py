"""Signals: Ctrl-C, and the other ways to ask a run to end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

# Ctrl-C; what systemd, SLURM and `kill` send; a terminal that is closed; Ctrl-Break on Windows.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Stop(SystemExit):
    """End the run at once, with status 128 plus the signal's number, as shells do."""

    code: int


class Interrupt:
    """Handle signals that end a run, in a `with` block: raise Stop, or first only note the request.

    number: of the signal noted; 0 for none.
    """

    number = 0

    def __init__(self, after_batch: bool = False, noted: Callable[[], object] = lambda: None) -> None:
        """Prepare.

        after_batch: the first signal only sets number, to let a batch finish; the second raises Stop.
        noted: called when a signal is only noted.
        """
        self.after_batch, self.noted = after_batch, noted
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            before = signal.getsignal(number)
            ours = isinstance(getattr(before, "__self__", None), Interrupt)
            # Other handlers stay: nohup, for example, ignores SIGHUP.
            if before in (signal.SIG_DFL, signal.default_int_handler) or ours:
                with contextlib.suppress(ValueError):  # not the main thread, which gets no signals
                    signal.signal(number, self.handle)
                    self.before[number] = before
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self.before.items():
            signal.signal(number, before)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Raises Stop."""
        if self.number or not self.after_batch:
            raise Stop(128 + number)
        self.number = number
        self.noted()
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        with contextlib.suppress(OSError):  # bypasses sys.stderr, which may be in use
            os.write(sys.stderr.fileno(), f"\ncapcli: stopping after this batch; {again} stops at once\n".encode())
