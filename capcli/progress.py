"""Progress on stderr: Rich's bars for people at a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub.utils import tqdm
    from rich.console import Console
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 30.0
DOWNLOAD_DELAY = 0.5  # seconds; shorter downloads need no bar


def stderr_console(quiet: bool = False) -> Console:
    """Return a console on stderr that prints text as it is. quiet: print nothing."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)


class Bars:
    """Draw progress bars, one below the other, and finally remove them.

    A bar that cannot be drawn, on a closed terminal say, never stops the work: OSErrors are ignored.
    """

    def __init__(self, console: Console, *columns: str, live: bool = True) -> None:
        """Prepare; nothing is drawn before `start`.

        columns: bar, count, bytes, speed, elapsed, left (time), or a Rich format for text.
        live: whether to redraw several times a second, with prints above the bars. If not, bars are drawn only when
            refreshed, and must be stopped before anything is printed.
        """
        from rich import progress as rich

        known: dict[str, Callable[[], rich.ProgressColumn]] = {
            "bar": rich.BarColumn,
            "count": rich.MofNCompleteColumn,
            "bytes": rich.DownloadColumn,
            "speed": rich.TransferSpeedColumn,
            "elapsed": rich.TimeElapsedColumn,
            "left": rich.TimeRemainingColumn,
        }
        self.progress = rich.Progress(
            *(known[column]() if column in known else rich.TextColumn(column) for column in columns),
            console=console,
            auto_refresh=live,
            redirect_stdout=live,
            redirect_stderr=live,
            transient=True,
        )

    def add(self, description: str = "", total: float | None = None, **fields: Any) -> TaskID:
        """Add a bar, and return its id.

        description: for a column that shows it.
        total: None if unknown.
        fields: values for the columns' formats.
        """
        return self.progress.add_task(description, total=total, **fields)

    def update(self, bar: TaskID, **changes: Any) -> None:
        """Change a bar. changes: as for `rich.progress.Progress.update`."""
        self.draw(lambda: self.progress.update(bar, **changes))

    def start(self) -> None:
        """Draw the bars from now on."""
        self.draw(self.progress.start)

    def stop(self) -> None:
        """Take the bars off the terminal until restarted."""
        if self.progress.live.is_started:  # or Rich would print an empty line without a terminal
            self.draw(self.progress.stop)

    def draw(self, action: Callable[[], object]) -> None:
        """Run a drawing action, ignoring failure."""
        with contextlib.suppress(OSError):
            action()


class CaptionBar:
    """Show images done and failed, images per second, and time left.

    Unless shown, it does and imports nothing.
    """

    def __init__(self, shown: bool, count: Callable[[], int] | None = None) -> None:
        """Draw the bar, empty.

        shown: whether there is a bar at all.
        count: finds the total, in a thread, so that no caption waits; None leaves it unknown.
        """
        self.bars: Bars | None = None
        if not shown:
            return
        from rich.console import Console

        texts = "{task.fields[rate]:.1f} images/s", "{task.fields[failed]} failed"
        self.bars = Bars(Console(stderr=True), "bar", "count", texts[0], "left", texts[1], live=False)
        self.bar = self.bars.add(rate=0.0, failed=0)
        if count is not None:
            threading.Thread(target=self.find_total, args=(count,), daemon=True).start()
        self.bars.start()

    def find_total(self, count: Callable[[], int]) -> None:
        """Set the total. Runs in a thread."""
        with contextlib.suppress(OSError):  # captioning walks the folder too, and reports it
            total = count()
            if self.bars is not None:
                self.bars.update(self.bar, total=total)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Hide the bar while captions and errors are printed."""
        if self.bars is None:
            yield
            return
        self.bars.stop()
        try:
            yield
        finally:
            self.bars.start()

    def update(self, done: int, failed: int) -> None:
        """Show the counts.

        done: images captioned or skipped.
        failed: images without a caption.
        """
        if self.bars is None:
            return
        elapsed = self.bars.progress.tasks[0].elapsed or 0.0
        rate = done / elapsed if elapsed else 0.0
        self.bars.update(self.bar, completed=done, rate=rate, failed=failed, refresh=True)

    def close(self) -> None:
        """Take the bar away."""
        if self.bars is not None:
            self.bars.stop()


@contextlib.contextmanager
def progress(console: Console, what: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
    """Yield a function `advance(count, remark="")`, to call when count more are done.

    On a terminal it moves a bar; elsewhere it prints a line every half minute.

    what: the activity.
    total: 1 or more.
    unit: such as photos, for lines that give them per second.
    """
    if console.is_terminal:
        bars = Bars(console, "{task.description}", "bar", "count", "elapsed", "left")
        bar = bars.add(what, total)

        def move(count: int, remark: str = "") -> None:
            bars.update(bar, advance=count, description=f"{what}  {remark}" if remark else what)

        bars.start()
        try:
            yield move
        finally:
            bars.stop()
        return
    done, started = 0, time.monotonic()
    said = started

    def say(count: int, remark: str = "") -> None:
        nonlocal done, said
        done, now = done + count, time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            left = timedelta(seconds=round((now - started) / done * (total - done)))
            rate = f"{done / (now - started):.1f} {unit}/s" if unit else ""
            counted = f"{what}: {done:,} of {total:,} {unit}".rstrip()
            line = ", ".join(filter(None, [counted, remark, rate, f"{left} left"]))
            console.print(line, markup=False)

    yield say


@contextlib.contextmanager
def download_bars() -> Iterator[type[tqdm]]:
    """Yield the bar class for huggingface_hub; its bars are gone after the block.

    Rich draws them: only those that count bytes, only on a terminal, and only after DOWNLOAD_DELAY, so that cached
    files cause no flicker.
    """
    from huggingface_hub.utils import tqdm

    bars = Bars(stderr_console(), "{task.description}", "bar", "bytes", "speed", "left")
    over = threading.Event()  # tqdm's own thread may redraw a bar the Hub did not close

    class HubBar(tqdm):
        """Report a tqdm's state to Rich."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.shown_from = time.monotonic() + DOWNLOAD_DELAY
            self.bar: TaskID | None = None
            hidden = options.get("disable") or options.get("unit") != "B" or not sys.stderr.isatty()
            # As a GUI's, tqdm keeps count and calls display(), but writes nothing itself.
            super().__init__(*arguments, **options | {"disable": hidden, "gui": True})

        def display(self, *_: Any, **__: Any) -> None:
            if over.is_set() or time.monotonic() <= self.shown_from:
                return
            if self.bar is None:
                self.bar = bars.add(self.desc, self.total)
            bars.update(self.bar, description=self.desc, completed=self.n, total=self.total)
            bars.start()

        def clear(self, *_: Any, **__: Any) -> None:
            pass

    try:
        yield HubBar
    finally:
        over.set()
        bars.stop()
