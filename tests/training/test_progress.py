import io

import pytest
from rich.console import Console

from capcli.training import progress
from capcli.training.progress import progress as show_progress


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
