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
    path: str | None, format: str, num: int, resume: bool, overwrite: bool
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
    finished = resume_output(path, format, num) if resume else {}
    try:
        if format == "json" and (file or not os.path.exists(path)):  # not for pipes and devices
            return WholeFile(os.path.realpath(path), like=Path(path) if file else None), finished
        return GrowingFile(path, append=bool(finished)), finished
    except OSError as error:
        raise OutputError(path, error) from None


def resume_output(path: str, format: str, num: int) -> dict[str, bool]:
    """Repair an output file, and say which images it holds: path → whether it has a caption (False: scored too low).

    A half-written last line goes, and so do rows with errors, as those images are to be tried again. A missing file
    holds nothing. Raises OutputError for a file that is not one of ours, which stays as it is.
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
                    except ValueError:
                        reason = f"record {number} is not the {format} of this command; left as it is"
                        raise OutputError(path, reason) from None
                    if row.get("error"):
                        continue
                    finished[row["path"]] = bool(row["caption"])
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


def read_row(record: bytes, format: str, heading: list[str] | None) -> dict[str, Any]:
    """A record as a dictionary with path, caption, and error for a failure. Raises ValueError."""
    if heading is None:
        row = json.loads(record)
        if not isinstance(row, dict) or not isinstance(row.get("path"), str) or not row.keys() & {"caption", "error"}:
            raise ValueError
        return row
    text = io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")
    cells = next(csv.reader(text, delimiter=DELIMITERS[format]))
    return dict(zip(heading, cells, strict=True))
