"""Opening an output, and going on with what an earlier run left in it."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from capcli.files import GrowingFile, OutputError, WholeFile, discarding, is_writable
from capcli.outputs.formats import JsonRows, Layout, Rows
from capcli.outputs.sink import Sink


def check_output(path: str | os.PathLike[str] | None, overwrite: bool, how: str = "--existing overwrite") -> None:
    """Refuse a file that can't be written, or has something in it, as far as can be told without touching anything.

    path: None for no file.
    overwrite: whether what is in the file may be lost or continued.
    how: what to say for that to be so.
    Raises OutputError.
    """
    if path is None:
        return
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        reason = errno.EISDIR
    elif not os.path.isdir(folder):
        reason = errno.ENOENT
    else:
        reason = 0 if os.path.exists(path) or is_writable(folder) else errno.EACCES
    if reason:
        raise OutputError(path, OSError(reason, os.strerror(reason)))
    if not overwrite and os.path.isfile(path) and os.path.getsize(path):
        raise OutputError(path, f"exists; use {how}, or name another file")


def check_rows(path: str | None, kind: type[Rows], layout: Layout, resume: bool, overwrite: bool) -> None:
    """Raise the OutputError that `open_rows` would, as far as can be told without touching anything."""
    check_output(path, resume or overwrite, how_to_replace(kind))
    if resume and path is not None and os.path.isfile(path):
        read_rows(path, kind, layout)


def open_rows(path: str, kind: type[Rows], layout: Layout, resume: bool, overwrite: bool) -> Rows:
    """Open a file for rows, and go on with what it holds if that is wanted.

    JSON is put in place when it is complete, everything else grows by lines; what it replaces stays until then, or
    until the first line. With resume a half-written last line goes, and so do the rows of images that are to be tried
    again: those with errors, and those without a caption where min_score would leave one now; a missing file is begun.
    Raises OutputError for a file with something in it where neither resume nor overwrite is wanted, for one that
    another run writes, and for one that is not ours to continue.
    """
    finished: dict[str, bool] = {}
    try:
        # Not pipes and devices.
        if kind is JsonRows and (os.path.isfile(path) or not os.path.exists(path)):
            place = os.path.realpath(path)
            whole = WholeFile(place, like=Path(place) if os.path.isfile(place) else None)
            with discarding(whole):
                check_output(path, overwrite)  # another run may have made it since it was checked
            return kind(whole, layout)
        file = GrowingFile(path, replace=overwrite or resume)
        with discarding(file):
            check_output(path, resume or overwrite, how_to_replace(kind))
            if resume and os.path.isfile(path):
                finished, size = read_rows(path, kind, layout)
                file.replace = not finished
                if finished and size < os.path.getsize(path):
                    file.rewrite(record for record, _ in kept_records(path, kind, layout))
        return kind(file, layout, finished if kind.resumable else None)
    except OSError as error:
        raise OutputError(path, error) from None


def how_to_replace(kind: type[Rows]) -> str:
    """Return the options that let a run write to a file of rows that exists."""
    return "--resume or --existing overwrite" if kind.resumable else "--existing overwrite"


def how_to_go_on(rows: Rows | None, page: bool, places: Sequence[Sink]) -> str:
    """Return what to tell the person who stopped a run: the command that captions what is left, and no more than that;
    empty where there is none.

    rows: those of a file, or None.
    page: whether there is one, which then holds what this run did.
    places: where captions went besides.
    """
    if rows is not None and not (rows.remembers and os.path.isfile(rows.path)):
        return ""
    if rows is None and not (places and all(place.remembers for place in places)):
        return ""
    changes = " and ".join([*["with --resume"] * (rows is not None), *["without --html"] * page])
    return f"; to continue, run the same command {changes}".rstrip()


def read_rows(path: str, kind: type[Rows], layout: Layout) -> tuple[dict[str, bool], int]:
    """Return which images a file of rows holds: path → whether it has a caption (False: scored too low); and how many
    bytes of it are to be kept. Raises OutputError for a file that is not one of ours."""
    finished, size = {}, 0
    for record, row in kept_records(path, kind, layout):
        size += len(record)
        if row:
            finished[row["path"]] = bool(row["caption"])
    return finished, size


def kept_records(path: str, kind: type[Rows], layout: Layout) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the records of a file that are complete and whose images are done, each with its row; a heading's is empty.

    Raises OutputError.
    """
    start = kind.beginning(layout)
    try:
        with open(path, "rb") as file:
            for number, (record, complete) in enumerate(kind.records(file), 1):
                if number == 1 and not record.startswith(start) and (complete or not start.startswith(record)):
                    raise OutputError(path, f"not {kind.name} as this command writes it; left as it is")
                if not complete:
                    return
                try:
                    row = kind.read_row(record, layout)
                    if row.get("error") or has_another_chance(row, layout.min_score):
                        continue
                except (ValueError, TypeError, AttributeError, LookupError, RecursionError, csv.Error):
                    reason = f"record {number} is not {kind.name} as this command writes it; left as it is"
                    raise OutputError(path, reason) from None
                yield record, row
    except OSError as error:
        raise OutputError(path, error) from None


def has_another_chance(row: dict[str, Any], min_score: float | None) -> bool:
    """Return whether a caption of the row was left empty that would not be now."""
    return any(
        not candidate["caption"]
        and candidate.get("score") not in (None, "")  # as a table has it where there were fewer candidates
        and (min_score is None or float(candidate["score"]) >= min_score)
        for candidate in ([row] if row else []) + list(row.get("candidates", ()))
    )
