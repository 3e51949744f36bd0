"""The progress bar, for people only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """Done and total, images per second, time left and failures, on standard error. Does nothing unless shown."""

    def __init__(self, shown: bool, count: Callable[[], int] | None = None) -> None:
        """count: finds the total; called in a thread, so that no caption waits for it."""
        self.progress: Progress | None = None
        if not shown:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:.1f} images/s"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[failed]} failed"),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.progress.add_task("", total=None, rate=0.0, failed=0)
        if count is not None:
            threading.Thread(target=self.find_total, args=(count,), daemon=True).start()
        self.draw(self.progress.start)

    def find_total(self, count: Callable[[], int]) -> None:
        """Thread."""
        with contextlib.suppress(OSError):  # the captions' own pass over the folder reports it
            total = count()
            if self.progress is not None:
                self.progress.update(self.task, total=total)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bar off the terminal while captions and errors are printed."""
        if self.progress is None:
            yield
            return
        self.draw(self.progress.stop)
        try:
            yield
        finally:
            self.draw(self.progress.start)

    def update(self, done: int, failed: int) -> None:
        """Show where things stand."""
        if (progress := self.progress) is None:
            return
        elapsed = progress.tasks[0].elapsed or 0.0
        rate = done / elapsed if elapsed else 0.0
        self.draw(lambda: progress.update(self.task, completed=done, rate=rate, failed=failed, refresh=True))

    def close(self) -> None:
        """Take the bar away."""
        if self.progress is not None:
            self.draw(self.progress.stop)

    def draw(self, action: Callable[[], object]) -> None:
        """Whatever goes wrong, as on a terminal that was closed, is no reason to stop captioning."""
        with contextlib.suppress(OSError):
            action()
