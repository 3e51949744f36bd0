"""Opening an output, and going on with what an earlier run left in it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from capcli.files import GrowingFile, OutputError, OutputFile, StandardOutput, WholeFile
from capcli.writers import DELIMITERS, columns

RESUMABLE = ("jsonl", "csv", "tsv")
ROW_START = b'{"path": "'


def open_output(
    path: str | None, format: str, num: int, resume: bool, overwrite: bool, min_score: float | None = None
) -> tuple[OutputFile, dict[str, bool]]:
    """Where to write, and what is there already (see `resume_output`). path: None is stdout.

    JSON is put in place when it is complete, everything else grows by lines. Raises OutputError, for one where there is
    something already and neither resume nor overwrite is wanted.
    """
    if path is None:
        return StandardOutput(), {}
    file = os.path.isfile(path)
    if file and os.path.getsize(path) and not (resume or overwrite):
        how = "--resume or --existing overwrite" if format in RESUMABLE else "--existing overwrite"
        raise OutputError(path, f"exists; say {how}, or name another file")
    finished = resume_output(path, format, num, min_score) if resume else {}
    try:
        if format == "json" and (file or not os.path.exists(path)):  # not for pipes and devices
            return WholeFile(os.path.realpath(path), like=Path(path) if file else None), finished
        return GrowingFile(path, append=bool(finished)), finished
    except OSError as error:
        raise OutputError(path, error) from None


def resume_output(path: str, format: str, num: int, min_score: float | None = None) -> dict[str, bool]:
    """Repair an output file, and say which images it holds: path → whether it has a caption (False: scored too low).

    A half-written last line goes, and so do the rows of images that are to be tried again: those with errors, and those
    without a caption where min_score would leave one now. A missing file holds nothing. Raises OutputError for a file
    that is not one of ours, which stays as it is.
    """
    finished = {}
    heading = columns(num) if format in DELIMITERS else None
    start = ROW_START if heading is None else DELIMITERS[format].join(heading).encode() + b"\n"
    try:
        with open(path, "rb") as old, WholeFile(os.path.realpath(path), like=Path(path)) as new:
            for number, (record, complete) in enumerate(records(old, heading is not None), 1):
                if number == 1 and not record.startswith(start) and (complete or not start.startswith(record)):
                    raise OutputError(path, f"not the {format} of this command; left as it is")
                if not complete:
                    break
                if number > 1 or heading is None:
                    try:
                        row = read_row(record, format, heading)
                        if row.get("error") or has_another_chance(row, num, min_score):
                            continue
                        finished[row["path"]] = bool(row["caption"])
                    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, csv.Error):
                        reason = f"record {number} is not the {format} of this command; left as it is"
                        raise OutputError(path, reason) from None
                new.file.write(record)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(path, error) from None
    return finished


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
