"""Opening an output, or continuing an earlier run's."""

from __future__ import annotations

import codecs
import csv
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from capcli.files import GrowingFile, OutputError, WholeFile, discarding, is_writable
from capcli.images.decode import holds_image
from capcli.outputs.originals import UntouchableError, check_permission
from capcli.outputs.parquet import (
    ParquetFolder,
    ParquetRows,
    check_folder,
    check_parquet,
    finished_in,
    open_folder,
)
from capcli.outputs.rows import Layout, Rows
from capcli.outputs.sink import Sink

Judgement = TypeVar("Judgement")
NOT_UTF_8 = "not in UTF-8; left as it is: save it in UTF-8"


def check_output(
    path: str | os.PathLike[str] | None, overwrite: bool, how: str | None = "--existing overwrite"
) -> None:
    """Refuse a file that cannot be written, is not empty or is an image, without touching it.

    path: None for no file.
    overwrite: whether its content may be replaced or continued.
    how: the options that allow this, for the message; None if there are none.

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
    if not os.path.isfile(path):
        return
    with OutputError.about(path):
        status = os.stat(path)
        if status.st_size and not overwrite:
            raise OutputError(path, f"exists; {f'use {how}' if how else 'remove it'}, or name another file")
        try:
            check_permission(path, status)
        except UntouchableError as error:
            raise OutputError(path, str(error)) from None
        if status.st_size and holds_image(path):  # whatever list or folder names it
            raise OutputError(path, "is an image; name another file")


def check_rows(path: str | None, kind: type[Rows], layout: Layout, resume: bool, overwrite: bool) -> None:
    """Raise the OutputError that `open_rows` would, without touching anything.

    path: None for stdout.
    kind, layout, resume, overwrite: as in `open_rows`.
    """
    if path is not None and issubclass(kind, ParquetRows):
        check_parquet(path)
    if path is not None and issubclass(kind, ParquetFolder):
        check_folder(path, resume or overwrite)
    else:
        check_output(path, resume or overwrite, how_to_replace(kind))
    if resume and path is not None:
        finished_images(path, kind, layout)


def open_rows(
    path: str, kind: type[Rows], layout: Layout, resume: bool, overwrite: bool, at_once: bool = False
) -> Rows:
    """Return an open file of rows.

    JSON and Parquet files appear once complete, a Parquet folder grows by whole files, all else by lines. What they
    replace stays until then, or until the first line or file.

    resume: continue a file, if there is one. Removes a half-written last line, and rows of images to retry: those with
        errors, and those that min_confidence left empty but no longer would.
    overwrite: replace a file that is not empty.
    at_once: let any format appear only once complete; not with resume.

    Raises OutputError for a file that is not empty, without resume or overwrite; for one that another run is writing;
    and, with resume, for one that capcli did not write in this format and layout.
    """
    finished: dict[str, bool] = {}
    try:
        if issubclass(kind, ParquetFolder):
            return open_folder(path, layout, resume, overwrite, lambda row: is_done(row, layout.min_confidence))
        # Not pipes and devices.
        if (at_once or kind.at_once) and (os.path.isfile(path) or not os.path.exists(path)):
            place = os.path.realpath(path)
            whole = WholeFile(place, like=Path(place) if os.path.isfile(place) else None)
            with discarding(whole):
                check_output(path, overwrite)  # another run may have made it meanwhile
            return kind(whole, layout)
        file = GrowingFile(path, replace=overwrite or resume)
        with discarding(file):
            check_output(path, resume or overwrite, how_to_replace(kind))
            if resume and os.path.isfile(path):
                finished, stays = read_rows(path, kind, layout)
                file.replace = not finished
                if finished and not stays:
                    file.rewrite(record for record, _ in kept_records(path, kind, layout))
        return kind(file, layout, finished if kind.resumable else None)
    except OSError as error:
        raise OutputError(path, error) from None


def how_to_replace(kind: type[Rows]) -> str:
    """Return the options that let a run write a format to an existing file."""
    return "--resume or --existing overwrite" if kind.resumable else "--existing overwrite"


def how_to_go_on(rows: Rows | None, page: bool, places: Sequence[Sink]) -> str:
    """Return advice for a stopped run: how to caption the rest, and only that; empty if no command does.

    rows: of the output file; None for stdout.
    page: whether the run wrote a page.
    places: sidecars and metadata.
    """
    if rows is not None and not (rows.remembers and os.path.exists(rows.path)):
        return ""
    if rows is None and not (places and all(place.remembers for place in places)):
        return ""
    changes = " and ".join([*["with --resume"] * (rows is not None), *["without --html"] * page])
    return f"; to continue, run the same command {changes}".rstrip()


def finished_images(path: str, kind: type[Rows], layout: Layout) -> dict[str, bool]:
    """Return an output's finished images as `read_rows` does; none without a file."""
    if issubclass(kind, ParquetFolder):
        return finished_in(path, lambda row: is_done(row, layout.min_confidence))
    return read_rows(path, kind, layout)[0] if os.path.isfile(path) else {}


def read_rows(path: str, kind: type[Rows], layout: Layout) -> tuple[dict[str, bool], bool]:
    """Return a file's finished images, path → whether there is a caption, and whether it holds just their records.

    Too little confidence leaves a finished image without a caption. The records have to be as we write them.

    kind, layout: what the file should hold.

    Raises OutputError if it holds anything else, or cannot be read.
    """
    finished, stays = {}, True
    with OutputError.about(path), open(path, "rb") as file:
        for record, row in kept_records(path, kind, layout):
            stays = stays and file.read(len(record)) == record
            if row:
                finished[row["path"]] = bool(row["caption"])
        return finished, stays and not file.read(1)


def kept_records(path: str, kind: type[Rows], layout: Layout) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield a file's complete records of finished images, each with its row, empty for a heading.

    Records are as we write them, even if an editor or spreadsheet saved the file. Arguments and errors are those of
    `read_rows`.
    """
    for record, row, done in read_records(path, kind, layout, lambda row: is_done(row, layout.min_confidence)):
        if done:
            yield record, row


def read_records(
    path: str, kind: type[Rows], layout: Layout, judge: Callable[[dict[str, Any]], Judgement]
) -> Iterator[tuple[bytes, dict[str, Any], Judgement]]:
    """Yield a file's complete records, each with its row, empty for a heading, and the verdict of judge.

    judge: gets each row; an error that `Rows.read_row` may raise means that capcli did not write it.

    Raises OutputError if the file is not of this kind and layout, or cannot be read.
    """
    start = kind.beginning(layout)
    try:
        with opened(path) as file:
            for number, (record, complete) in enumerate(kind.records(file), 1):
                if number == 1 and not record.startswith(start) and (complete or not start.startswith(record[:-1])):
                    raise OutputError(path, f"not {kind.name} as this command writes it; left as it is")
                try:
                    row = kind.read_row(record, layout)
                    judgement = judge(row)
                    if not (complete or kind.shows_end):
                        raise ValueError
                except (ValueError, TypeError, AttributeError, LookupError, RecursionError, csv.Error) as error:
                    if not complete:  # half written
                        return
                    wrong = f"not {kind.name} as this command writes it; left as it is"
                    reason = NOT_UTF_8 if isinstance(error, UnicodeError) else wrong
                    raise OutputError(path, f"record {number} is {reason}") from None
                yield record, row, judgement
    except UnicodeDecodeError:
        raise OutputError(path, NOT_UTF_8) from None
    except OSError as error:
        raise OutputError(path, error) from None


def opened(path: str) -> BinaryIO:
    """Return a text file opened after its byte order mark. Raises OSError, and OutputError for UTF-16."""
    file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
    mark = file.read(3)
    if mark[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        file.close()
        raise OutputError(path, "is in UTF-16; save it in UTF-8")
    file.seek(3 if mark == codecs.BOM_UTF8 else 0)
    return file


def is_done(row: dict[str, Any], min_confidence: float | None) -> bool:
    """Return whether an image with this row needs no retry. min_confidence: of the current run."""
    return not (row.get("error") or has_another_chance(row, min_confidence))


def has_another_chance(row: dict[str, Any], min_confidence: float | None) -> bool:
    """Return whether a row's caption was left empty for its confidence, and would not be with this min_confidence."""
    empty = [
        float(candidate["score"])
        for candidate in ([row] if row else []) + list(row.get("candidates", ()))
        if not candidate["caption"] and candidate.get("score") not in (None, "")  # a table's cells for missing ones
    ]
    return bool(empty) and (min_confidence is None or float(row.get("confidence", 1)) >= min_confidence)
