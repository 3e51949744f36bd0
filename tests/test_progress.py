import io

import pytest
from fakes import Terminal
from rich.console import Console

from capcli import progress
from capcli.progress import progress as show_progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_there_is_a_line_each_half_minute(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), width=40, soft_wrap=True)
    with show_progress(console, "encoding pets", 4000) as advance:
        for second in range(0, 101, 10):
            clock[0] = second
            advance(40, f"loss {second}")
    assert console.file.getvalue().splitlines() == [
        "encoding pets: 160 of 4,000, loss 30, 0:12:00 left",
        "encoding pets: 280 of 4,000, loss 60, 0:13:17 left",
        "encoding pets: 400 of 4,000, loss 90, 0:13:30 left",
    ]


def test_lines_say_how_many_a_second_are_done(clock: list[float]) -> None:
    console = Console(file=io.StringIO(), width=40, soft_wrap=True)
    with show_progress(console, "epoch 2/3", 4000, "photos") as advance:
        for second in (20, 40):
            clock[0] = second
            advance(50, f"step {second}, loss 3.2")
    assert console.file.getvalue() == "epoch 2/3: 100 of 4,000 photos, step 40, loss 3.2, 2.5 photos/s, 0:26:00 left\n"


def test_what_is_soon_done_says_nothing(clock: list[float]) -> None:
    console = Console(file=io.StringIO())
    with show_progress(console, "encoding pets", 2) as advance:
        for second in (29, 40):
            clock[0] = second
            advance(1)
    assert console.file.getvalue() == ""


def test_a_terminal_shows_a_bar() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with show_progress(console, "encoding pets", 4000) as advance:
        advance(1, "loss 3.2")
        advance(2, "loss 3.1")
    assert "encoding pets  loss 3.1" in console.file.getvalue()
    assert "3/4000" in console.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_the_bytes_of_a_download_that_takes_a_while(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    monkeypatch.setattr(progress, "stderr_console", lambda: console)
    monkeypatch.setattr(progress.sys, "stderr", Terminal() if terminal else io.StringIO())
    with progress.download_bars() as bar_class:
        files, chunks = bar_class(total=1, desc="Fetching files"), bar_class(total=8000, unit="B", desc="Downloading")
        for now, shown in ((0.4, False), (0.6, terminal)):
            clock[0] = now
            for bar in (files, chunks):
                bar.update(1 if bar is files else 1000)
                bar.refresh()
            assert ("Downloading" in console.file.getvalue()) == shown
        if shown:
            assert "2.0/8.0 kB" in console.file.getvalue()
        assert "Fetching" not in console.file.getvalue()
        late = bar_class(total=8000, unit="B", desc="Reconstructing")
    drawn = console.file.getvalue()
    clock[0] = 9
    for bar in (files, chunks, late):  # as tqdm's own thread does, if the Hub leaves them open
        bar.refresh()
        bar.close()
    assert console.file.getvalue() == drawn
