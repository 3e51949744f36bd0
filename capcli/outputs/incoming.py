"""Captions made or corrected elsewhere, read as rows: tables and lists, whoever wrote them, and texts beside photos."""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from capcli.files import OutputError
from capcli.images.find import PHOTO_FOLDERS, find_images
from capcli.outputs.existing import SEPARATOR
from capcli.outputs.formats import FORMATS, JsonLinesRows, JsonRows, TextRows, format_by_ending, kinds_in, number_in
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.originals import UntouchableError
from capcli.outputs.parquet import ParquetRows, check_parquet, parts_of
from capcli.outputs.rows import Layout
from capcli.outputs.sidecars import read_text

Row = dict[str, Any]
# What columns are called: ours, ImageFolder's, those of `corrections.json` and of known data sets.
COLUMNS = {
    "path": ("path", "file_name", "file_path", "image", "image_name", "filename"),
    "caption": ("caption", "text", "captions", "comment"),
    "keywords": ("keywords",),
}
TEXTS = (".caption", ".txt")  # of a photo that has both, the second often holds tags
FALSE = ("", "0", "false", "no")


class HalfWritten(Exception):
    """Report a file whose last record a killed run has not completed."""


def rows_in(source: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a file, as `as_row` made them, or of the texts in a folder.

    source: a file in one of FORMATS, or a list of JSON; a folder that capcli wrote Parquet into; or one of photos with
        texts beside them.
    columns: what the columns are called that COLUMNS does not know, by its names.

    Raises OutputError for what cannot be read.
    """
    if not os.path.isdir(source):
        yield from rows_of(source, columns)
    elif parts := parts_of(source):
        for part in parts:
            yield from rows_of(os.fspath(part), columns)
    else:
        yield from texts_beside(source)


def rows_of(path: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of a file; see `rows_in`. Raises OutputError."""
    format_ = str(format_by_ending(path))
    if not os.path.isfile(path):
        raise OutputError(path, "not a file" if os.path.exists(path) else "no such file or folder")
    if format_ not in VALUES:
        endings = ", ".join(ending for name in VALUES for ending in FORMATS[name].endings)
        raise OutputError(path, f"unknown ending; known are {endings}")
    number = 1
    try:
        with OutputError.about(path):
            for value in VALUES[format_](path, columns):
                if value:
                    yield row_of(value, columns, os.path.dirname(path))
                number += 1
    except UnicodeError:
        raise OutputError(path, f"record {number} is not in UTF-8; save it in UTF-8") from None
    except HalfWritten:
        raise OutputError(path, "its last record is half written; complete it with --resume") from None
    except (csv.Error, json.JSONDecodeError, RecursionError):
        raise OutputError(path, f"record {number} is not {format_}") from None
    except ValueError as error:
        raise OutputError(path, f"record {number}: {error}") from None


def opened(path: str) -> io.TextIOWrapper:
    """Return an open file of text, which a spreadsheet may have saved. Raises OSError."""
    with open(path, "rb") as file:
        start = file.read(2)
    wide = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    # A path may be any bytes.
    return open(path, encoding="utf-16" if wide else "utf-8-sig", errors="surrogateescape", newline="")


def ends_whole(path: str) -> bool:
    """Return whether a file ends with a line end. Raises OSError."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def table(path: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of CSV or TSV, whatever the order of its columns and its delimiter. Raises ValueError, csv.Error.

    path: of the file.
    columns: as `rows_in` takes them.
    """
    usual = FORMATS[str(format_by_ending(path))].delimiter  # type: ignore[attr-defined]
    with opened(path) as file:
        start = file.readline()
        skipped = start.strip().lower() in ("sep=,", "sep=;", "sep=\t")  # a line for Excel alone
        start = file.readline() if skipped else start
        while start.count('"') % 2 and (more := file.readline()):
            start += more
        headings = {delimiter: names_in(start, delimiter) for delimiter in (usual, ";", ",", "\t")}
        delimiter = next((d for d in headings if has_columns(headings[d], columns)), usual)
        names = headings[delimiter]
        if not has_columns(names, columns):
            raise OutputError(path, no_column(names, columns))
        file.seek(0)
        if skipped:
            file.readline()
        lines = csv.reader(file, delimiter=delimiter, strict=True)
        next(lines)
        yield {}  # for the heading, which is the first record
        short = False
        try:
            for cells in lines:
                short = len(cells) < len(names)
                if len(cells) > len(names):
                    raise ValueError(f"{len(cells)} cells below {len(names)} columns")
                yield dict(zip(names, cells, strict=False)) if cells else {}
        except csv.Error as error:
            if "end of data" in str(error):  # within quotation marks
                raise HalfWritten from None
            raise
        if short and not ends_whole(path):
            raise HalfWritten


def names_in(heading: str, delimiter: str) -> list[str]:
    """Return the names of a table's columns. Raises csv.Error."""
    return [name.strip() for name in next(csv.reader(io.StringIO(heading, newline=""), delimiter=delimiter), [])]


def json_lines(path: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the objects of JSON Lines. Raises ValueError."""
    with opened(path) as file:
        for line in file:
            try:
                yield json.loads(line) if line.strip() else {}
            except ValueError:
                if not line.endswith("\n"):
                    raise HalfWritten from None
                raise


def json_list(path: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the objects of a list. Raises ValueError.

    Of one with an object in each line, as capcli writes it, only one is in memory at a time.
    """
    with opened(path) as file:
        by_line = file.readline().strip() == "["
        lines = (line.strip() for line in file if by_line)
        for number, line in enumerate(lines):
            try:
                value = {} if line in ("]", "") else json.loads(line.removesuffix(","))
            except ValueError:
                if number:
                    raise
                by_line = False
                break
            yield value
        if not by_line:
            file.seek(0)
            values = json.loads(file.read())
            if not isinstance(values, list):
                raise ValueError("not a list of captions")
            yield from values


def parquet(path: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of Parquet. Raises ValueError, and OutputError without pyarrow."""
    check_parquet(path)
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with open(path, "rb") as file, ParquetFile(file) as found:
            names = found.schema_arrow.names
            if not has_columns(names, columns):
                raise OutputError(path, no_column(names, columns))
            for batch in found.iter_batches(1000):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise OutputError(path, "not Parquet that can be read") from None


def text_lines(path: str, columns: Mapping[str, str]) -> Iterator[Row]:
    """Yield the rows of text, whose lines name their images. Raises ValueError."""
    with open(path, "rb") as file:
        start = file.read(3)
        file.seek(3 if start == codecs.BOM_UTF8 else 0)
        for record, complete in TextRows.records(file):
            if not complete:  # which no line of text shows by itself
                raise ValueError("half written; mend it, or end it with a line end")
            try:
                yield TextRows.read_row(record, Layout())
            except (ValueError, KeyError):
                raise ValueError("not path<TAB>caption") from None


VALUES = {
    **dict.fromkeys(("csv", "tsv"), table),
    **{JsonLinesRows.name: json_lines, JsonRows.name: json_list, ParquetRows.name: parquet, TextRows.name: text_lines},
}


def column_in(names: Mapping[str, Any] | list[str], known: str, columns: Mapping[str, str]) -> str | None:
    """Return what a column is called; None if it is missing.

    names: of the columns.
    known: which of COLUMNS.
    columns: as `rows_in` takes them.
    """
    wanted = (columns[known],) if known in columns else COLUMNS[known]
    return next((name for name in wanted if name in names), None)


def has_columns(names: list[str], columns: Mapping[str, str]) -> bool:
    """Return whether there are columns for paths and captions. names, columns: as `column_in` takes them."""
    return all(column_in(names, known, columns) for known in ("path", "caption"))


def no_column(names: list[str], columns: Mapping[str, str]) -> str:
    """Return the reason why a table cannot be read: the column that it lacks, and how to name it."""
    missing = next(known for known in ("path", "caption") if not column_in(names, known, columns))
    wanted = columns.get(missing) or " or ".join(COLUMNS[missing][:2])
    return f"no column {wanted} among {', '.join(names)[:200]}; name it with --column {missing}=NAME"


def row_of(value: Any, columns: Mapping[str, str], folder: str) -> Row:
    """Return a row as `as_row` made it, or would have. Raises ValueError.

    value: what was read.
    columns: as `rows_in` takes them.
    folder: that the file is in.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{brief(value)} is no row")
    name, key = column_in(value, "path", columns), column_in(value, "caption", columns)
    path = value.get(name or "")
    if not isinstance(path, str) or not path:
        raise ValueError(f"no {columns.get('path') or 'path or file_name'}")
    path = located(path, folder, name == "path")
    if error := value.get("error"):
        return {"path": path, "error": str(error)}
    if key is None:
        raise ValueError(f"no {columns.get('caption') or 'caption or text'}")
    candidates = candidates_in(value, key)
    row = {"path": path, **candidates[0]}
    if (likely := finite(value.get("confidence"))) is not None:
        row["confidence"] = likely
    if str(value.get("unsure") or "").strip().lower() not in FALSE:
        row["unsure"] = True
    if kinds := kinds_of(value.get("kinds")):
        row["kinds"] = kinds
    if len(candidates) > 1 or value.get("candidates"):
        row["candidates"] = candidates
    keywords = value.get(column_in(value, "keywords", columns) or "") or ()
    if isinstance(keywords, str):
        keywords = [keyword for each in keywords.split(SEPARATOR.strip()) if (keyword := each.strip())]
    if not all(isinstance(keyword, str) for keyword in keywords):
        raise ValueError(f"keywords that are no texts: {brief(keywords)}")
    return row | ({"keywords": list(keywords)} if keywords else {})


def kinds_of(value: Any) -> list[Row]:
    """Return kinds as `as_row` made them; none of anything else."""
    try:
        kinds = kinds_in(value) if isinstance(value, str) else value or ()
        return [{"name": str(kind["name"]), "probability": float(kind["probability"])} for kind in kinds]
    except (ValueError, TypeError, LookupError):
        return []


def candidates_in(value: Row, key: str) -> list[Row]:
    """Return the candidates of a row, one at least; the caption itself is the first. key: of the caption."""
    texts = value[key] if isinstance(value[key], list) else [value[key]]
    found = [candidate({"caption": text, **numbers_of(value, "")} if not i else {"caption": text})
             for i, text in enumerate(texts or [None])]  # fmt: skip
    for each in list(value.get("candidates") or ())[1:]:
        found.append(candidate(each if isinstance(each, dict) else {"caption": each}))
    number = 2
    while f"{key}_{number}" in value:  # a table's
        if value[f"{key}_{number}"] or value.get(f"score_{number}"):
            found.append(candidate({"caption": value[f"{key}_{number}"], **numbers_of(value, f"_{number}")}))
        number += 1
    return found


def numbers_of(value: Row, ending: str) -> Row:
    """Return the log-probability and the score of a candidate. ending: of their columns."""
    return {name: value.get(f"{name}{ending}") for name in ("log_prob", "score")}


def candidate(value: Row) -> Row:
    """Return a candidate as `as_row` made it. Raises ValueError for a caption that is no text."""
    text = value.get("caption")
    if not (text is None or isinstance(text, str)):
        raise ValueError(f"the caption {brief(text)} is no text")
    (text or "").encode()  # unlike paths, captions are UTF-8
    return {
        "caption": (text or "").strip() or None,
        **{name: finite(value.get(name)) for name in ("log_prob", "score")},
    }


def finite(value: Any) -> float | None:
    """Return a number, which a spreadsheet may have written with a comma; None for anything else."""
    try:
        number = number_in(value.replace(",", ".")) if isinstance(value, str) else value
    except ValueError:
        return None
    return number if isinstance(number, int | float) and math.isfinite(number) else None


def located(name: str, folder: str, ours: bool) -> str:
    """Return the path of a photo, which may not exist.

    name: as the row has it.
    folder: that the row's file is in.
    ours: whether it is relative to the current folder first, as capcli writes it.
    """
    if ours and os.path.exists(name):
        return name
    places = [os.path.join(folder, each if each != "." else "", name) for each in PHOTO_FOLDERS]
    return next(filter(os.path.isfile, places), name if ours else places[-1])


def texts_beside(folder: str) -> Iterator[Row]:
    """Yield a row for each photo in a folder, and below, that has a text beside it.

    Raises OutputError if none has.
    """
    from capcli.outputs.xmp_sidecars import XmpFile  # which loads Pillow

    there = False
    for image in find_images([folder]):
        if not isinstance(image, str):
            yield {"path": image.path, "error": image.reason}
            continue
        stem = os.path.splitext(image)[0]
        names = [*(stem + ending for ending in TEXTS), f"{image}.xmp", f"{stem}.xmp"]
        beside = next(filter(os.path.isfile, names), None)
        if beside is None:
            continue
        there = True
        row: Row = {"path": image, "log_prob": None, "score": None}
        try:
            if beside.endswith(".xmp"):
                shown = XmpFile(Path(beside).read_bytes()).shown
                row |= {"caption": shown.description or None}
                row |= {"keywords": list(shown.keywords)} if shown.keywords else {}
            else:
                row["caption"] = read_text(Path(beside))[0].strip() or None
            yield row
        except (UntouchableError, MetadataError) as error:
            yield {"path": image, "error": f"{beside}: {error}"}
        except OSError as error:
            yield {"path": image, "error": f"{beside}: {(error.strerror or str(error)).lower()}"}
    if not there:
        raise OutputError(folder, "no photo with a text beside it, and no part-….parquet from capcli, in this folder")
