"""A run as its parts see it: no model, captions that are made up."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import BAD, CAT, DOG, Found

from capcli.cli.run import Run
from capcli.outputs.formats import JsonLinesRows, TextRows
from capcli.outputs.rows import Layout
from capcli.outputs.sink import CaptionedAlready, Sink
from capcli.outputs.template import Template
from capcli.progress import CaptionBar
from capcli.results import ImageError


class Log:
    """Notes what reaches rows, a place and a view in which order: it is the file of the first, and makes the others."""

    path = "out.jsonl"

    def __init__(self, remembers: bool = True, put: Callable[[Any], object] = lambda caption: None) -> None:
        self.events: list[str] = []
        self.place = Place(self.events, remembers, put)

    def write(self, text: str) -> None:
        self.events.append(f"row {text.split(chr(34))[3]}{' error' * ('error' in text)}")

    def flush(self) -> None: ...
    def close(self) -> None: ...
    def discard(self) -> None: ...


class Place(Sink):
    """A sink for captions that notes them."""

    def __init__(self, events: list[str], remembers: bool, put: Callable[[Any], object]) -> None:
        self.events, self.remembers, self.action = events, remembers, put
        self.has_caption: set[str] = set()
        self.captioned_already: set[str] = set()

    def where(self, image: str) -> str:
        return "the log"

    def has(self, image: str) -> bool:
        return image in self.has_caption

    def wants(self, image: str) -> bool:
        if image in self.captioned_already:
            raise CaptionedAlready(image, "captioned")
        return True

    def write(self, result: Any) -> None:
        if not isinstance(result, ImageError):
            self.action(result)
            self.events.append(f"put {result.path}")


class View(Sink):
    """A sink that wants nothing by itself."""

    def __init__(self, action: Callable[[Any], object]) -> None:
        self.action = action

    def write(self, result: Any) -> None:
        self.action(result)


def run_into(
    log: Log, *views: Sink, resumable: bool = False, finished: dict[str, bool] | None = None, **options: Any
) -> Run:
    rows = JsonLinesRows(log, Layout(), (finished or {}) if resumable or finished else None)
    return Run(rows, [log.place, *views], **options)


def execute(log: Log, batch: list[Any], *views: Sink, **options: Any) -> tuple[int, Run]:
    run = run_into(log, *views, **options)
    return run.execute([batch], CaptionBar(False), False), run


def raising(error: Exception, path: str = "cat.jpg") -> Callable[[Found], None]:
    def action(result: Found) -> None:
        if result.path == path:
            raise error

    return action


def test_an_image_that_fails_twice_is_one_failure(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(put=raising(ImageError("cat.jpg", "cat.txt: permission denied", "permission denied")))
    gone = View(raising(ImageError("cat.jpg", "no such file or directory")))
    status, _ = execute(log, [CAT, BAD, DOG], gone)
    assert status == 1
    assert log.events == ["row cat.jpg", "row bad.jpg error", "row b/dog.jpg", "put b/dog.jpg"]
    assert capsys.readouterr().err.splitlines() == [
        "capcli: cat.jpg: cat.txt: permission denied",
        "capcli: cat.jpg: no such file or directory",
        "capcli: bad.jpg: the file is empty",
        "capcli: 2 of 3 images failed",
        "capcli:     1 × permission denied",
        "capcli:     1 × no such file or directory",
        "capcli:     1 × the file is empty",
    ]


def test_reasons_are_counted_without_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(caption: Found) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", caption.path + ".txt")

    execute(Log(put=refuse), [CAT, DOG])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "capcli: cat.jpg: cat.jpg.txt: permission denied"
    assert lines[2:] == ["capcli: 2 of 2 images failed", "capcli:     2 × permission denied"]


def test_a_defect_costs_its_image_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(put=raising(ZeroDivisionError("by\nzero")))
    status, _ = execute(log, [CAT, DOG])
    assert (status, log.events[-1]) == (1, "put b/dog.jpg")
    line, *summary = capsys.readouterr().err.splitlines()
    assert line.startswith("capcli: cat.jpg: a bug in capcli: ZeroDivisionError at test_run.py:")
    assert line.endswith(": by zero")
    assert len(summary) == 2


def test_a_defect_among_what_is_to_do_costs_its_image() -> None:
    class Confused(Place):
        def wants(self, image: str) -> bool:
            return bool(1 // ("x" not in image))

    log = Log()
    log.place = Confused(log.events, True, lambda caption: None)
    run = run_into(log)
    first, second, third = run.to_do(["a.jpg", "x.jpg", BAD])
    assert (first, third) == ("a.jpg", BAD)
    assert isinstance(second, ImageError)
    assert "ZeroDivisionError" in second.reason


def test_what_all_others_would_meet_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(put=raising(OSError(errno.ENOSPC, "No space left on device", "cat.txt")))
    status, _ = execute(log, [BAD, CAT, DOG])
    assert status == 1
    assert log.events == ["row bad.jpg error", "row cat.jpg", "row b/dog.jpg"]
    assert capsys.readouterr().err.splitlines() == [
        "capcli: bad.jpg: the file is empty",
        "capcli: cat.txt: no space left on device",
    ]


@pytest.mark.parametrize(
    ("resumable", "remembers", "events"),
    [
        (False, False, "row put view"),
        (False, True, "row put view"),
        (True, True, "view row put"),  # the place says by itself that it was not reached
        (True, False, "put view row"),
    ],
)
def test_a_row_comes_after_what_only_it_can_say_is_done(resumable: bool, remembers: bool, events: str) -> None:
    log = Log(remembers)
    view = View(lambda result: log.events.append(f"view {result.path}"))
    execute(log, [CAT], view, resumable=resumable)
    assert log.events == [f"{event} cat.jpg" for event in events.split()]


def test_the_row_of_an_image_that_failed_before_it_is_an_error() -> None:
    log = Log(False, raising(ImageError("cat.jpg", "permission denied")))
    execute(log, [CAT, DOG], resumable=True)
    assert log.events == ["put b/dog.jpg", "row cat.jpg error", "row b/dog.jpg"]


@pytest.mark.parametrize("remembers", [True, False])
def test_what_a_continued_run_has_left_to_do(remembers: bool) -> None:
    log = Log(remembers)
    finished = {"done.jpg": True, "owed.jpg": True, "low.jpg": False, "failing.jpg": True}
    run = run_into(log, finished=finished)
    log.place.has_caption = {"done.jpg", "failing.jpg", "mine.jpg"}
    # With `--existing fail`, what the run itself has written is no failure.
    log.place.captioned_already = {"failing.jpg", "mine.jpg"}
    owed, new, mine = run.to_do(["done.jpg", "owed.jpg", "low.jpg", "failing.jpg", "new.jpg", "mine.jpg"])
    assert (owed, new, str(mine)) == ("owed.jpg", "new.jpg", "mine.jpg: captioned")


def test_a_template_that_does_not_fit_costs_its_image(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from capcli.files import GrowingFile

    file = GrowingFile(str(tmp_path / "out.txt"), False)
    run = Run(TextRows(file, Layout(template=Template("{score:{name}}"))))
    assert run.execute([[CAT, Found("x/.2f.jpg", "a man"), DOG]], CaptionBar(False), False) == 1
    assert (tmp_path / "out.txt").read_text() == "x/.2f.jpg\t-0.50\n"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("capcli: cat.jpg: the template cannot be filled in for it: ")
    assert lines[2:] == ["capcli: 2 of 3 images failed", "capcli:     2 × the template cannot be filled in for it"]
