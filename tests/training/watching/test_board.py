"""Event files, read as TensorBoard reads them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from capcli.training.watching import watching
from capcli.training.watching.charts import Chart
from capcli.training.watching.watching import News, Table, Watcher

events = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="needs tensorboard: pip install 'capcli[tensorboard]'",
)
HEAD = ("epoch", "training/loss", "pets/CIDEr")


def news(*rows: tuple[float | None, ...]) -> News:
    charts: list[Chart] = []
    return News("run", "going", True, charts, "", Table(HEAD, rows), [], "")


def read(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = events.EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_figures_are_read_back_and_once_after_resuming(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    watcher = Watcher(tmp_path, console, tensorboard=True)
    rows = [(1, 4.5, None), (2, 3.5, 20.25), (3, 2.5, 30.5)]
    for count in (0, 1, 2):
        watcher.write(news(*rows[:count]))
    assert read(tmp_path) == {"training/loss": [(1, 4.5), (2, 3.5)], "pets/CIDEr": [(2, 20.25)]}
    watcher.write(news((*rows[0][:2], 10.0), rows[1]))  # as teaching fills its table, column by column
    assert read(tmp_path)["pets/CIDEr"] == [(2, 20.25), (1, 10.0)]

    again = Watcher(tmp_path, console, tensorboard=True)  # the run is killed, and resumed after epoch 1
    again.write(news((1, 4.5, 10.0)))
    again.write(news((1, 4.5, 10.0), *rows[1:]))
    expected = {"training/loss": [(1, 4.5), (2, 3.5), (3, 2.5)], "pets/CIDEr": [(1, 10.0), (2, 20.25), (3, 30.5)]}
    assert read(tmp_path) == expected
    assert console.file.getvalue() == ""


def test_without_being_asked_there_are_none(tmp_path: Path) -> None:
    Watcher(tmp_path, Console(file=io.StringIO())).write(news((1, 4.5, None)))
    assert [path.name for path in tmp_path.iterdir()] == [watching.PAGE_FILE]


def test_what_cannot_be_written_costs_a_line_and_not_the_page(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), soft_wrap=True)
    (tmp_path / "tensorboard").touch()
    watcher = Watcher(tmp_path, console, tensorboard=True)
    for count in (1, 2):
        watcher.write(news(*[(number, 4.5, None) for number in range(1, count + 1)]))
    assert console.file.getvalue() == f"{tmp_path / 'tensorboard'}: file exists; training goes on without it\n"
    assert (tmp_path / watching.PAGE_FILE).read_text().count('<tr><th scope="row">') == 2
