"""Captions as rows: text, JSON, JSON Lines, CSV, TSV and COCO's, a class each."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from capcli.outputs.existing import SEPARATOR
from capcli.outputs.imagefolder import ImageFolderRows
from capcli.outputs.parquet import ParquetFolder, ParquetRows, is_folder
from capcli.outputs.rows import Layout, Rows, is_encodable, worded_row
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.files import OutputFile
    from capcli.results import Caption

ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
UNESCAPES = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


class TextRows(Rows):
    """Write a line `[path<TAB>][score<TAB>]caption[<TAB>(unsure)]` for each candidate.

    Several candidates have scores. Of unsure ones the first is marked if the layout marks them; otherwise they are left
    empty unless the layout keeps them.
    """

    name = "text"
    endings = (".txt",)
    templated = True
    shows_end = False

    def row(self, result: Caption | ImageError) -> str:
        return self.encode(worded_row(result, self.layout, on_one_line))

    def encode(self, row: dict[str, Any]) -> str:
        """Return a line for each candidate; nothing for a failure, which goes only to stderr."""
        if "error" in row:
            return ""
        layout = self.layout
        path = on_one_line(row["path"])
        lines = []
        for rank, candidate in enumerate(row.get("candidates", [row])[: layout.num]):
            score = candidate["score"]
            columns = [path] if layout.names_images else []
            columns += ["" if score is None else f"{score:.4f}"] if layout.num > 1 else []
            columns += ["" if self.leaves_out(row) else candidate["caption"] or ""]
            columns += ["(unsure)"] if layout.marks_unsure and row.get("unsure") and not rank else []
            lines.append("\t".join(columns) + "\n")
        return "".join(lines)

    @classmethod
    def records(cls, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """Yield an image's line, or its candidates' lines together; see `Rows.records`."""
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
        """Return lines that name their image as a row, worded as they are. See `Rows.read_row`."""
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
    """Write one JSON array, complete when closed."""

    name = "json"
    endings: ClassVar[tuple[str, ...]] = (".json",)
    at_once = True
    lead = "["

    def encode(self, row: dict[str, Any]) -> str:
        lead, self.lead = self.lead, ","
        return f"{lead}\n{dump(row)}"

    def end(self) -> str:
        return "[]\n" if self.lead == "[" else "\n]\n"

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        return b"["

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a line of the array as a dictionary, empty for a bracket. See `Rows.read_row`."""
        if record in (b"[\n", b"]\n", b"[]\n"):
            return {}
        return JsonLinesRows.read_row(record.removesuffix(b"\n").removesuffix(b","), layout)


class CocoRows(JsonRows):
    """Write COCO's form for results, `[{"image_id", "caption"}]`, as its server takes them; failures have no row."""

    name = "coco"
    endings = ()

    def wants(self, image: str) -> bool | None:
        """Return None. Raises ImageError if the image's name does not end in a number, its id."""
        from capcli.images.find import coco_id  # here, as help needs no Pillow

        if coco_id(image) is None:
            raise ImageError(image, "its name does not end in a number, which COCO's form needs")
        return None

    def encode(self, row: dict[str, Any]) -> str:
        """Return an element of the array, nothing for a failure. Raises ImageError as `wants` does."""
        if "error" in row:
            return ""
        from capcli.images.find import coco_id

        self.wants(row["path"])
        return super().encode({"image_id": coco_id(row["path"]), "caption": row["caption"] or ""})

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Raise ValueError, since the names of the images are lost."""
        raise ValueError


class JsonLinesRows(Rows):
    """Write one JSON object per line."""

    name = "jsonl"
    endings = (".jsonl", ".ndjson")
    resumable = True

    def encode(self, row: dict[str, Any]) -> str:
        return dump(row) + "\n"

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        return b'{"path": "'

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a line as a dictionary with a path, and a caption or an error; see `Rows.read_row`."""
        row = json.loads(record)
        if not (isinstance(row["path"], str) and ("caption" in row or row.get("error"))):
            raise ValueError
        return dict(row)


class CsvRows(Rows):
    """Write a record per image, quoted as in RFC 4180 but ending in a bare line feed.

    Columns: path, caption, log_prob and score; the last three again for each further candidate, numbered from 2; error;
    unsure, `true` or empty; confidence; kinds, as `polar bear 0.8215, bear 0.0622`; and keywords, if asked for, joined
    with `, `.
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
        cells: list[Any] = [row["path"]]
        for candidate in row.get("candidates", [row] if "caption" in row else []):
            cells += [candidate["caption"], candidate["log_prob"], candidate["score"]]
        cells += [None] * (1 + 3 * self.layout.num - len(cells))
        keywords = [SEPARATOR.join(row.get("keywords", ()))] if self.layout.keywords else []
        kinds = SEPARATOR.join(f"{kind['name']} {kind['probability']}" for kind in row.get("kinds", ()))
        cells += [row.get("error"), "true" if row.get("unsure") else None, row.get("confidence"), kinds, *keywords]
        heading, self.heading = self.heading, ""
        return heading + self.record_of(cells)

    @classmethod
    def record_of(cls, cells: list[Any]) -> str:
        """Return a record. cells: the first is text."""
        text = io.StringIO(newline="")
        # Before Python 3.13 a bare carriage return is not quoted, and would end the record for a reader.
        table = csv.writer(
            text,
            delimiter=cls.delimiter,
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if "\r" in cells[0] else csv.QUOTE_MINIMAL,
        )
        table.writerow(cells)
        return text.getvalue()

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        return (cls.delimiter.join(columns(layout)) + "\n").encode()

    @classmethod
    def records(cls, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """Yield records as we write them, even if a spreadsheet chose other delimiters or decimal commas.

        See `Rows.records`. Raises UnicodeDecodeError for such a file that is not UTF-8.
        """
        records = super().records(file)
        first, complete = next(records, (b"", True))
        delimiter, names = next(
            (
                (delimiter, names)
                for delimiter in (cls.delimiter, ";", ",", "\t")
                for names in csv.reader([first[:100_000].decode("utf-8", "replace")], delimiter=delimiter)
                if names[:2] == ["path", "caption"]
            ),
            (cls.delimiter, []),
        )
        if first:
            yield cls.record_of(names).encode() if names else first, complete
        for record, complete in records:
            if delimiter != cls.delimiter:
                cells = []
                with contextlib.suppress(csv.Error, StopIteration):
                    cells = next(csv.reader(io.StringIO(record.decode(), newline=""), delimiter=delimiter))
                if len(cells) == len(names):
                    numbers = [name.startswith(("log_prob", "score", "confidence")) for name in names]
                    cells = [c.replace(",", ".") if number else c for c, number in zip(cells, numbers, strict=True)]
                    record = cls.record_of(cells).encode()
            yield record, complete

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a record's row; empty for the heading. See `Rows.read_row`."""
        if record == cls.beginning(layout):
            return {}
        text = io.StringIO(record.decode("utf-8", "surrogateescape"), newline="")
        cells = dict(zip(columns(layout), next(csv.reader(text, delimiter=cls.delimiter, strict=True)), strict=True))
        cells["caption"].encode()  # always UTF-8, whereas a path may be any bytes
        if cells["error"]:
            return {"path": cells["path"], "error": cells["error"]}
        candidates = [
            {"caption": caption or None, "log_prob": number_in(log_prob), "score": number_in(score)}
            for number in ("", *(f"_{i}" for i in range(2, layout.num + 1)))
            for caption, log_prob, score in [[cells[f"{name}{number}"] for name in ("caption", "log_prob", "score")]]
            if not number or caption or score
        ]
        unsure = {"": {}, "true": {"unsure": True}}[cells["unsure"].lower()]  # spreadsheets write TRUE
        several = {"candidates": candidates} if layout.num > 1 else {}
        keywords = {"keywords": cells["keywords"].split(SEPARATOR)} if cells.get("keywords") else {}
        confidence = {"confidence": float(cells["confidence"])} if cells["confidence"] else {}
        kinds = {"kinds": kinds_in(cells["kinds"])} if cells["kinds"] else {}
        return {"path": cells["path"], **candidates[0], **confidence, **unsure, **kinds, **several, **keywords}


class TsvRows(CsvRows):
    """Write records as CsvRows does, with tabs."""

    name = "tsv"
    endings = (".tsv",)
    delimiter = "\t"


KINDS = (TextRows, JsonRows, JsonLinesRows, CsvRows, TsvRows, ParquetRows, ImageFolderRows, CocoRows)
FORMATS: dict[str, type[Rows]] = {kind.name: kind for kind in KINDS}
RESUMABLE = tuple(kind.name for kind in FORMATS.values() if kind.resumable)


def format_by_ending(path: str | None) -> str | None:
    """Return the name of the format for a file's ending, or None if unknown.

    path: None for stdout, which gets text, like pipes and devices.
    """
    if path is None:
        return TextRows.name
    ending = os.path.splitext(path)[1].lower()
    nameless = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    unknown = TextRows.name if nameless else None
    return next((name for name, kind in FORMATS.items() if ending in kind.endings), unknown)


def format_for(name: str, path: str | None) -> type[Rows]:
    """Return the class that writes a format to a path, which for Parquet may be a folder.

    path: None for stdout.
    """
    kind = FORMATS[name]
    return ParquetFolder if kind is ParquetRows and is_folder(path) else kind


def columns(layout: Layout) -> list[str]:
    """Return a table's column names."""
    numbers = ["", *(f"_{i}" for i in range(2, layout.num + 1))]
    candidates = [f"{name}{i}" for i in numbers for name in ("caption", "log_prob", "score")]
    judgement = ["unsure", "confidence", "kinds"]
    return ["path", *candidates, "error", *judgement, *(["keywords"] if layout.keywords else [])]


def dump(value: Any, indent: int | None = None) -> str:
    """Return JSON in UTF-8, or in ASCII if a file name in it is not UTF-8, to be read back.

    indent: spaces per level; None gives one line.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isascii() or is_encodable(text) else json.dumps(value, indent=indent)


def on_one_line(path: str) -> str:
    """Return a file name with `\\t`, `\\n`, `\\r` and `\\\\` for tabs, line ends and backslashes.

    So a line stays one, and gives the name back. Windows names need none: a backslash separates folders there.
    """
    return path if os.sep == "\\" else path.translate(ESCAPES)


def from_one_line(path: str) -> str:
    """Return the file name that `on_one_line` escaped. Raises KeyError for other escapes."""
    return path if os.sep == "\\" else re.sub(r"\\(.?)", lambda found: UNESCAPES[found[1]], path)


def kinds_in(cell: str) -> list[dict[str, Any]]:
    """Return the kinds in a table's cell, as rows have them. Raises ValueError."""
    named = (kind.rpartition(" ") for kind in cell.split(SEPARATOR) if kind)
    return [{"name": name, "probability": float(number)} for name, _, number in named]


def number_in(cell: str) -> float | None:
    """Return the number in a table's cell, None for an empty one. Raises ValueError."""
    return float(cell) if cell else None
