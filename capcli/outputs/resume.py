"""Opening an output, and going on with what an earlier run left in it."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from capcli.files import GrowingFile, OutputError, OutputFile, WholeFile, discarding, is_writable
from capcli.outputs.formats import DELIMITERS, columns
from capcli.outputs.sidecars import Place

RESUMABLE = ("jsonl", "csv", "tsv")
ROW_START = b'{"path": "'


def check_output(
    output: str | os.PathLike[str] | None,
    format: str,
    num: int,
    resume: bool,
    overwrite: bool,
    min_score: float | None = None,
) -> None:
    """Raise the OutputError that `open_output` would, as far as can be told without touching anything; for a page of
    format `html` too."""
    if output is None:
        return
    path = os.fspath(output)
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        reason = errno.EISDIR
    elif not os.path.isdir(folder):
        reason = errno.ENOENT
    else:
        reason = 0 if os.path.exists(path) or is_writable(folder) else errno.EACCES
    if reason:
        raise OutputError(path, OSError(reason, os.strerror(reason)))
    refuse_existing(path, format, resume or overwrite)
    if resume and os.path.isfile(path):
        read_output(path, format, num, min_score)


def open_output(
    path: str, format: str, num: int, resume: bool, overwrite: bool, min_score: float | None = None
) -> tuple[OutputFile, dict[str, bool]]:
    """Where to write, and what is there already (see `read_output`) if that is to be continued.

    JSON is put in place when it is complete, everything else grows by lines; what it replaces stays until then, or
    until the first line. With resume a half-written last line goes, and so do the rows of images that are to be tried
    again: those with errors, and those without a caption where min_score would leave one now; a missing file is begun.
    Raises OutputError for a file with something in it where neither resume nor
    overwrite is wanted, for one that another run writes, and for one that is not ours to continue.
    """
    finished: dict[str, bool] = {}
    try:
        # Not pipes and devices.
        if format == "json" and (os.path.isfile(path) or not os.path.exists(path)):
            place = os.path.realpath(path)
            whole = WholeFile(place, like=Path(place) if os.path.isfile(place) else None)
            with discarding(whole):
                refuse_existing(path, format, overwrite)  # another run may have made it since it was checked
            return whole, {}
        file = GrowingFile(path, replace=overwrite or resume)
        with discarding(file):
            refuse_existing(path, format, resume or overwrite)
            if resume and os.path.isfile(path):
                finished, size = read_output(path, format, num, min_score)
                file.replace = not finished
                if finished and size < os.path.getsize(path):
                    file.rewrite(record for record, _ in kept_records(path, format, num, min_score))
        return file, finished
    except OSError as error:
        raise OutputError(path, error) from None


def how_to_go_on(output: str | None, resumable: bool, html: bool, places: Sequence[Place]) -> str:
    """What to tell the person who stopped a run: the command that captions what is left, and no more than that; empty
    where there is none. resumable: whether the output can be continued; html: whether there is a page, which then holds
    what this run did; places: where captions went besides."""
    if output is not None and not (resumable and os.path.isfile(output)):
        return ""
    if output is None and not (places and all(place.remembers for place in places)):
        return ""
    changes = " and ".join([*["with --resume"] * resumable, *["without --html"] * html])
    return f"; the same command {changes} goes on".replace("  ", " ")


def refuse_existing(path: str, format: str, wanted: bool) -> None:
    """Raise OutputError for a file with something in it that is not wanted so."""
    if not wanted and os.path.isfile(path) and os.path.getsize(path):
        how = "--resume or --existing overwrite" if format in RESUMABLE else "--existing overwrite"
        raise OutputError(path, f"exists; say {how}, or name another file")


def read_output(path: str, format: str, num: int, min_score: float | None) -> tuple[dict[str, bool], int]:
    """Which images an output file holds: path → whether it has a caption (False: scored too low); and how many bytes of
    it are to be kept. Raises OutputError for a file that is not one of ours."""
    finished, size = {}, 0
    for record, row in kept_records(path, format, num, min_score):
        size += len(record)
        if row:
            finished[row["path"]] = bool(row["caption"])
    return finished, size


def kept_records(path: str, format: str, num: int, min_score: float | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The records of an output file that are complete and whose images are done, each with its row; the heading's is
    empty. Raises OutputError."""
    heading = columns(num) if format in DELIMITERS else None
    start = ROW_START if heading is None else DELIMITERS[format].join(heading).encode() + b"\n"
    try:
        with open(path, "rb") as file:
            for number, (record, complete) in enumerate(records(file, heading is not None), 1):
                if number == 1 and not record.startswith(start) and (complete or not start.startswith(record)):
                    raise OutputError(path, f"not the {format} of this command; left as it is")
                if not complete:
                    return
                row: dict[str, Any] = {}
                if number > 1 or heading is None:
                    try:
                        row = read_row(record, format, heading)
                        if row.get("error") or has_another_chance(row, num, min_score):
                            continue
                    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, csv.Error):
                        reason = f"record {number} is not the {format} of this command; left as it is"
                        raise OutputError(path, reason) from None
                yield record, row
    except OSError as error:
        raise OutputError(path, error) from None


def records(file: BinaryIO, quoted: bool) -> Iterator[tuple[bytes, bool]]:
    """(record, whether it is complete). quoted: a line end between quotation marks ends no record."""
    record = b""
    for line in file:
        record += line
        if line.endswith(b"\n") and not (quoted and record.count(b'"') % 2):
            yield record, True
            record = b""
    if record:
        yield record, False


def has_another_chance(row: dict[str, Any], num: int, min_score: float | None) -> bool:
    """Whether a caption of the row was left empty that would not be now."""
    numbered = ({name: row.get(f"{name}_{i}") for name in ("caption", "score")} for i in range(2, num + 1))
    return any(
        not candidate["caption"]
        and candidate.get("score") not in (None, "")  # as a table has it where there were fewer candidates
        and (min_score is None or float(candidate["score"]) >= min_score)
        for candidate in (row, *row.get("candidates", ()), *numbered)
    )


def read_row(record: bytes, format: str, heading: list[str] | None) -> dict[str, Any]:
    """A record as a dictionary with path, caption, and error for a failure. Raises ValueError."""
    if heading is not None:
        text = io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")
        cells = next(csv.reader(text, delimiter=DELIMITERS[format]))
        return dict(zip(heading, cells, strict=True))
    row = json.loads(record)
    ours = isinstance(row, dict) and isinstance(row.get("path"), str) and ("caption" in row or row.get("error"))
    if not ours:
        raise ValueError
    return row
