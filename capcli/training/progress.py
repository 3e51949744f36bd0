"""How far training has come, on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0


def stderr_console() -> Console:
    """Return a console on stderr that prints text as it is."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[..., None]]:
    """Yield a function `advance(count, remark="")` that is to be called whenever count more of the total are done."""
    if console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}"), *columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)

            def move(count: int, remark: str = "") -> None:
                bar.update(task, advance=count, description=f"{what}  {remark}" if remark else what)

            yield move
        return
    done, begun = 0, time.monotonic()
    said = begun

    def say(count: int, remark: str = "") -> None:
        nonlocal done, said
        done, now = done + count, time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and done < total:
            said = now
            left = timedelta(seconds=round((now - begun) / done * (total - done)))
            line = ", ".join(filter(None, [f"{what}: {done:,} of {total:,}", remark, f"{left} left"]))
            console.print(line, markup=False)

    yield say
