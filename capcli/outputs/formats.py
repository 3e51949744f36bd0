"""Captions as rows of a file or of standard output: text, JSON, JSON Lines, CSV and TSV, a class for each format."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from capcli.files import OutputError
from capcli.outputs.sink import Sink
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.files import OutputFile
    from capcli.results import Caption

ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
UNESCAPES = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


@dataclass(frozen=True)
class Layout:
    """Describe what rows hold.

    num: candidates per image, 1 or more; with their scores if more than one.
    min_score: candidates that score less are left empty; None keeps all.
    template: makes the text of a line from a candidate.
    names_images: whether lines of text begin with the image's path.
    marks_unsure: whether lines of text mark unsure captions, which people want and programs do not; all other formats
        always do.
    """

    num: int = 1
    min_score: float | None = None
    template: Template = CAPTION_ALONE
    names_images: bool = True
    marks_unsure: bool = False


class Rows(Sink):
    """Write a row for each result, in one format; each subclass is a format.

    name: of the format, as `--format` takes it.
    endings: of file names, in lower case and with their dots.
    resumable: whether a later run can continue a file in this format.
    at_once: whether a file is put in place when it is complete, instead of growing.
    line_ends_quoted: whether a line end between quotation marks is part of the record.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    resumable: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    line_ends_quoted: ClassVar[bool] = False
    path: str | os.PathLike[str]

    def __init__(self, file: OutputFile, layout: Layout, finished: dict[str, bool] | None = None) -> None:
        """Begin an output, or continue one.

        file: what to write to.
        finished: the images that the file already has rows for, path → whether the row has a caption; None for an
            output that no later run can continue.
        """
        self.file, self.layout, self.path = file, layout, file.path
        self.finished = finished or {}
        self.remembers = finished is not None

    def wants(self, image: str) -> bool | None:
        """Return False for an image that already has its row, otherwise None."""
        return False if image in self.finished else None

    def has(self, image: str) -> bool:
        """Return whether the image has a row with a caption from an earlier run."""
        return self.finished.get(image, False)

    def write(self, result: Caption | ImageError) -> None:
        """Add the row of a caption or a failure, unless its image already has one.

        Raises OutputError, and BrokenPipeError if the reader has gone.
        """
        if result.path not in self.finished:
            row = self.row(result)
            with OutputError.about(self.path):
                self.file.write(row)

    def copy(self, row: dict[str, Any]) -> None:
        """Add a row that was read from another output, as `as_row` made it. Raises OutputError, BrokenPipeError."""
        with OutputError.about(self.path):
            self.file.write(self.encode(row))

    def row(self, result: Caption | ImageError) -> str:
        """Return the text to write for one result. Raises ImageError if there can be none."""
        return self.encode(as_row(result, self.layout.num, self.layout.min_score))

    def encode(self, row: dict[str, Any]) -> str:
        """Return the text to write for a row. row: as `as_row` makes it."""
        raise NotImplementedError

    def end(self) -> str:
        """Return the text that completes the output."""
        return ""

    def flush(self) -> None:
        """Make the rows visible to other programs. Raises OutputError and BrokenPipeError."""
        with OutputError.about(self.path):
            self.file.flush()

    def close(self) -> None:
        """Complete the output. Raises OutputError and BrokenPipeError."""
        with OutputError.about(self.path):
            if end := self.end():
                self.file.write(end)
            self.file.close()

    def discard(self) -> None:
        """Abandon the output, leaving what is in it."""
        self.file.discard()

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        """Return the bytes that every file of this format and layout begins with."""
        return b""

    @classmethod
    def layout_of(cls, line: bytes) -> Layout:
        """Return the layout that a file has to be read with. line: its first one."""
        return Layout()

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a record as the row that `as_row` made; one that belongs to no image, as a heading, has no path.

        record: as `records` yields it.
        layout: of the file.

        Raises ValueError, TypeError, AttributeError, LookupError or RecursionError if capcli did not write the record.
        """
        raise NotImplementedError

    @classmethod
    def records(cls, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """Yield each record of a file with its line end, and whether it is complete, which the last one may not be."""
        record = b""
        for line in file:
            record += line
            if line.endswith(b"\n") and not (cls.line_ends_quoted and record.count(b'"') % 2):
                yield record, True
                record = b""
        if record:
            yield record, False


class TextRows(Rows):
    """Write a line `[path<TAB>][score<TAB>]caption[<TAB>(unsure)]` for each candidate.

    The score is given if there are several candidates, and the first of them is marked as unsure if the layout asks for
    it.
    """

    name = "text"
    endings = (".txt",)

    def row(self, result: Caption | ImageError) -> str:
        """Return a line for each candidate, worded as the template has it, and nothing for a failure."""
        layout = self.layout
        row = as_row(result, layout.num, layout.min_score)
        if not isinstance(result, Exception):
            for shown, candidate in zip(row.get("candidates", [row]), result.candidates, strict=False):
                if not is_rejected(candidate, layout.min_score):
                    shown["caption"] = layout.template.fill(result.path, candidate, on_one_line)
        return self.encode(row)

    def encode(self, row: dict[str, Any]) -> str:
        """Return a line for each candidate, and nothing for a failure, which goes to stderr only."""
        if "error" in row:
            return ""
        layout = self.layout
        path = on_one_line(row["path"])
        lines = []
        for rank, candidate in enumerate(row.get("candidates", [row])[: layout.num]):
            score = candidate["score"]
            columns = [path] if layout.names_images else []
            columns += ["" if score is None else f"{score:.4f}"] if layout.num > 1 else []
            columns += [candidate["caption"] or ""]
            columns += ["(unsure)"] if layout.marks_unsure and row.get("unsure") and not rank else []
            lines.append("\t".join(columns) + "\n")
        return "".join(lines)

    @classmethod
    def records(cls, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """Yield the line of an image, or the lines of its candidates together; see `Rows.records`."""
        record = b""
        for line, complete in super().records(file):
            path, *rest = line.split(b"\t")
            if record and not (len(rest) > 1 and record.startswith(path + b"\t")):
                yield record, True
                record = b""
            record += line
            if len(rest) < 2 or not complete:
                yield record, complete
                record = b""
        if record:
            yield record, True

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return lines that name their image as a row; the template's wording is the caption. See `Rows.read_row`."""
        lines = [line.split("\t") for line in record.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")]
        if not all(2 <= len(line) <= 3 for line in lines):
            raise ValueError
        scored = len(lines[0]) == 3
        candidates = [
            {"caption": line[-1] or None, "log_prob": None, "score": number_in(line[1]) if scored else None}
            for line in lines
        ]
        return {"path": from_one_line(lines[0][0]), **candidates[0]} | ({"candidates": candidates} if scored else {})


class JsonRows(Rows):
    """Write one JSON array, complete when it is closed."""

    name = "json"
    endings = (".json",)
    at_once = True
    lead = "["

    def encode(self, row: dict[str, Any]) -> str:
        """Return an element of the array, after the bracket or comma that precedes it."""
        lead, self.lead = self.lead, ","
        return f"{lead}\n{dump(row)}"

    def end(self) -> str:
        """Return the end of the array."""
        return "[]\n" if self.lead == "[" else "\n]\n"

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        """Return the bracket."""
        return b"["

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a line of the array as a dictionary; that of a bracket is empty. See `Rows.read_row`."""
        if record in (b"[\n", b"]\n", b"[]\n"):
            return {}
        return JsonLinesRows.read_row(record.removesuffix(b"\n").removesuffix(b","), layout)


class JsonLinesRows(Rows):
    """Write one JSON object per line."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")
    resumable = True

    def encode(self, row: dict[str, Any]) -> str:
        """Return one line."""
        return dump(row) + "\n"

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        """Return how the first row begins."""
        return b'{"path": "'

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a line as a dictionary with a path, and a caption or an error; see `Rows.read_row`."""
        row = json.loads(record)
        if not (isinstance(row["path"], str) and ("caption" in row or row.get("error"))):
            raise ValueError
        return dict(row)


class CsvRows(Rows):
    """Write a record per image, quoted as in RFC 4180, but with lines that end in a bare line feed.

    Its columns are path, caption, log_prob and score; the last three again, numbered from 2, for each other candidate;
    error; and unsure, which is `true` or empty.
    """

    name = "csv"
    endings = (".csv",)
    resumable = True
    line_ends_quoted = True
    delimiter = ","

    def __init__(self, file: OutputFile, layout: Layout, finished: dict[str, bool] | None = None) -> None:
        super().__init__(file, layout, finished)
        self.heading = "" if finished else self.beginning(layout).decode()  # comes with the first record

    def encode(self, row: dict[str, Any]) -> str:
        """Return a record, preceded by the heading if it is the first."""
        cells: list[Any] = []
        for candidate in row.get("candidates", [row] if "caption" in row else []):
            cells += [candidate["caption"], candidate["log_prob"], candidate["score"]]
        cells += [None] * (3 * self.layout.num - len(cells))
        text = io.StringIO(newline="")
        # Before Python 3.13 a carriage return alone is not quoted, and would end the record for who reads it.
        table = csv.writer(
            text,
            delimiter=self.delimiter,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if "\r" in row["path"] else csv.QUOTE_MINIMAL,
        )
        table.writerow([row["path"], *cells, row.get("error"), "true" if row.get("unsure") else None])
        heading, self.heading = self.heading, ""
        return heading + text.getvalue()

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        """Return the heading."""
        return (cls.delimiter.join(columns(layout.num)) + "\n").encode()

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a record as the row it was made of; that of the heading is empty. See `Rows.read_row`."""
        if record == cls.beginning(layout):
            return {}
        text = io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")
        cells = dict(zip(columns(layout.num), next(csv.reader(text, delimiter=cls.delimiter)), strict=True))
        if cells["error"]:
            return {"path": cells["path"], "error": cells["error"]}
        candidates = [
            {"caption": caption or None, "log_prob": number_in(log_prob), "score": number_in(score)}
            for number in ("", *(f"_{i}" for i in range(2, layout.num + 1)))
            for caption, log_prob, score in [[cells[f"{name}{number}"] for name in ("caption", "log_prob", "score")]]
            if not number or caption or score
        ]
        unsure = {"": {}, "true": {"unsure": True}}[cells["unsure"]]
        several = {"candidates": candidates} if layout.num > 1 else {}
        return {"path": cells["path"], **candidates[0], **unsure, **several}

    @classmethod
    def layout_of(cls, line: bytes) -> Layout:
        """Return a layout of as many candidates as the heading has columns for."""
        return Layout(max(1, len(line.split(cls.delimiter.encode())) // 3 - 1))


class TsvRows(CsvRows):
    """Write the records of CsvRows, with tabs between the columns."""

    name = "tsv"
    endings = (".tsv",)
    delimiter = "\t"


FORMATS: dict[str, type[Rows]] = {kind.name: kind for kind in (TextRows, JsonRows, JsonLinesRows, CsvRows, TsvRows)}
RESUMABLE = tuple(kind.name for kind in FORMATS.values() if kind.resumable)


def format_by_ending(path: str | None) -> str | None:
    """Return the name of the format that a file's ending stands for.

    path: of the file; None for stdout, which gets text.

    Returns None if the ending is unknown.
    """
    if path is None:
        return TextRows.name
    ending = os.path.splitext(path)[1].lower()
    return next((name for name, kind in FORMATS.items() if ending in kind.endings), None)


def columns(num: int) -> list[str]:
    """Return the names of a table's columns. num: candidates per image, 1 or more."""
    numbers = ["", *(f"_{i}" for i in range(2, num + 1))]
    return ["path", *(f"{name}{i}" for i in numbers for name in ("caption", "log_prob", "score")), "error", "unsure"]


def is_rejected(candidate: Any, min_score: float | None) -> bool:
    """Return whether a candidate scores less than min_score; None rejects none."""
    return min_score is not None and candidate.score < min_score


def as_row(result: Caption | ImageError, num: int, min_score: float | None = None) -> dict[str, Any]:
    """Return a result as a row of JSON.

    It is `{"path", "caption", "log_prob", "score"}`, with `"unsure": true` if the caption is, and with `"candidates"`
    if num is above 1; for a failure, `{"path", "error"}`.

    num: candidates per image, 1 or more.
    min_score: captions that score less are None; None keeps all.
    """
    if isinstance(result, Exception):
        return {"path": result.path, "error": result.reason}
    row = {"path": result.path, **as_candidate(result, min_score)} | ({"unsure": True} if result.unsure else {})
    if num > 1:
        row["candidates"] = [as_candidate(candidate, min_score) for candidate in result.candidates]
    return row


def as_candidate(candidate: Any, min_score: float | None = None) -> dict[str, Any]:
    """Return `{"caption", "log_prob", "score"}`; the caption is None if it scores less than min_score."""
    return {
        "caption": None if is_rejected(candidate, min_score) else candidate.text,
        "log_prob": round(candidate.log_prob, 4),
        "score": round(candidate.score, 4),
    }


def as_read(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row that was read as `as_row` made it, the same whatever format it was read from.

    row: may have an empty caption, and lack log_prob, score and unsure.

    Raises ValueError, TypeError, AttributeError or KeyError if there is anything else in it.
    """
    known = {"path", "caption", "log_prob", "score", "unsure", "candidates", "error"}
    if not isinstance(row["path"], str) or not row.keys() <= known:
        raise ValueError
    if row.get("error"):
        return {"path": row["path"], "error": str(row["error"])}
    read = {"path": row["path"], **candidate_as_read(row)} | ({"unsure": True} if row.get("unsure") else {})
    candidates = [candidate_as_read(candidate) for candidate in row.get("candidates") or ()]
    return read | ({"candidates": candidates} if candidates else {})


def candidate_as_read(candidate: dict[str, Any]) -> dict[str, Any]:
    """Return a candidate of a row that was read; see `as_read`."""
    caption, numbers = candidate["caption"], {name: candidate.get(name) for name in ("log_prob", "score")}
    if not (caption is None or isinstance(caption, str)):
        raise TypeError
    if not all(number is None or math.isfinite(number) for number in numbers.values()):
        raise ValueError
    return {"caption": caption or None, **numbers}


def dump(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON, in UTF-8, or in ASCII if a file name in it is not UTF-8, so that it can be read back.

    indent: spaces per level; None writes one line.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isascii() or is_encodable(text) else json.dumps(value, indent=indent)


def is_encodable(text: str) -> bool:
    """Return whether a text can be written in UTF-8: a name that is not UTF-8 has surrogates in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def on_one_line(path: str) -> str:
    """Return a file name with `\\t`, `\\n`, `\\r` and `\\\\` for tabs, line ends and backslashes.

    So a line stays a line, and the name can be recovered from it. On Windows names stay as they are: a backslash
    separates folders there, and no name holds the other characters.
    """
    return path if os.sep == "\\" else path.translate(ESCAPES)


def from_one_line(path: str) -> str:
    """Return the file name that `on_one_line` made this of. Raises KeyError if it made nothing like it."""
    return path if os.sep == "\\" else re.sub(r"\\(.?)", lambda found: UNESCAPES[found[1]], path)


def number_in(cell: str) -> float | None:
    """Return the number in a table's cell, None if it is empty. Raises ValueError."""
    return float(cell) if cell else None
