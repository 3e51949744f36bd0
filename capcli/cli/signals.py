"""Signals: Ctrl-C, and the other ways in which a person or a system asks a run to end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

# Ctrl-C; what systemd, SLURM and `kill` send; a terminal that is closed; Ctrl-Break on Windows.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Stop(SystemExit):
    """End the run at once; its exit status is 128 plus the signal's number, as in a shell."""

    code: int


class Interrupt:
    """Handle signals that ask a run to end, in a `with` block: raise Stop, or first only note the request.

    number: of the signal that asked the run to end after its batch; 0 if none did.
    """

    number = 0

    def __init__(self, after_batch: bool = False) -> None:
        """Prepare to handle signals.

        after_batch: whether the first signal only sets number, so that the run can finish its batch; the second one
            raises Stop in any case.
        """
        self.after_batch = after_batch
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            before = signal.getsignal(number)
            ours = isinstance(getattr(before, "__self__", None), Interrupt)
            # Any other handler is left alone: nohup, for example, has SIGHUP ignored.
            if before in (signal.SIG_DFL, signal.default_int_handler) or ours:
                with contextlib.suppress(ValueError):  # not the main thread: no signal comes here
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
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        with contextlib.suppress(OSError):  # not through sys.stderr, which the interrupted code may be writing to
            os.write(sys.stderr.fileno(), f"\ncapcli: stopping after this batch; {again} stops at once\n".encode())
