"""Progress on stderr: bars that Rich draws for people at a terminal, and a line now and then for everybody else."""

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
DOWNLOAD_DELAY = 0.5  # seconds; a download that is over sooner needs no bar


def stderr_console(quiet: bool = False) -> Console:
    """Return a console on stderr that prints text as it is. quiet: print nothing."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)


class Bars:
    """Draw one progress bar, or several below each other, and take them away in the end.

    A bar that cannot be drawn, because the terminal was closed for one, never stops the work: OSErrors are ignored.
    """

    def __init__(self, console: Console, *columns: str, live: bool = True) -> None:
        """Prepare to draw; nothing is drawn before `start`.

        console: where to draw.
        columns: bar, count, bytes, speed, elapsed, left (time), or a format of Rich's for a text.
        live: whether to redraw by itself several times a second, with what is printed meanwhile above the bars. If not,
            bars are only drawn when they are refreshed, and have to be stopped before anything is printed.
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
        total: None while it is unknown.
        fields: the values that the columns' formats name.
        """
        return self.progress.add_task(description, total=total, **fields)

    def update(self, bar: TaskID, **changes: Any) -> None:
        """Change a bar. changes: as `rich.progress.Progress.update` takes them."""
        self.draw(lambda: self.progress.update(bar, **changes))

    def start(self) -> None:
        """Draw the bars from now on."""
        self.draw(self.progress.start)

    def stop(self) -> None:
        """Take the bars off the terminal, until they are started again."""
        if self.progress.live.is_started:  # or Rich would print an empty line where there is no terminal
            self.draw(self.progress.stop)

    def draw(self, action: Callable[[], object]) -> None:
        """Do something that draws, and ignore it if that fails."""
        with contextlib.suppress(OSError):
            action()


class CaptionBar:
    """Show how many images are done and how many failed, images per second, and the time left.

    Unless it is shown this does nothing, and imports nothing.
    """

    def __init__(self, shown: bool, count: Callable[[], int] | None = None) -> None:
        """Draw the bar, empty.

        shown: whether there is to be a bar at all.
        count: finds the total; is called in a thread, so that no caption waits for it. None leaves the total unknown.
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
        """Take the bar off the terminal while captions and errors are printed."""
        if self.bars is None:
            yield
            return
        self.bars.stop()
        try:
            yield
        finally:
            self.bars.start()

    def update(self, done: int, failed: int) -> None:
        """Show where things stand.

        done: images captioned or skipped.
        failed: images that have no caption.
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
    """Yield a function `advance(count, remark="")`, to be called whenever count more of the total are done.

    On a terminal it moves a bar; elsewhere it prints a line every half minute.

    console: where to show the progress.
    what: is being done.
    total: how many there are to do, 1 or more.
    unit: what they are, such as photos; the lines then say how many a second are done.
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
    done, begun = 0, time.monotonic()
    said = begun

    def say(count: int, remark: str = "") -> None:
        nonlocal done, said
        done, now = done + count, time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            left = timedelta(seconds=round((now - begun) / done * (total - done)))
            rate = f"{done / (now - begun):.1f} {unit}/s" if unit else ""
            counted = f"{what}: {done:,} of {total:,} {unit}".rstrip()
            line = ", ".join(filter(None, [counted, remark, rate, f"{left} left"]))
            console.print(line, markup=False)

    yield say


@contextlib.contextmanager
def download_bars() -> Iterator[type[tqdm]]:
    """Yield the class of bar that huggingface_hub is to make; the bars are gone when the block is left.

    The Hub reports to a tqdm, which this is, but Rich draws it: only the bars that count bytes, only on a terminal, and
    only once DOWNLOAD_DELAY is over, so that nothing flickers for what is in the cache.
    """
    from huggingface_hub.utils import tqdm

    bars = Bars(stderr_console(), "{task.description}", "bar", "bytes", "speed", "left")
    over = threading.Event()  # tqdm's own thread may redraw a bar that the Hub did not close

    class HubBar(tqdm):
        """Report the state of a tqdm to Rich."""

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
