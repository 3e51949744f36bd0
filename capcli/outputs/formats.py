"""Captions as text, JSON Lines, JSON, CSV and TSV."""

from __future__ import annotations

import csv
import json
import os
import string
from typing import TYPE_CHECKING, Any, Protocol

from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption

FORMATS = ("text", "json", "jsonl", "csv", "tsv")
ENDINGS = {".txt": "text", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
TEMPLATE_MISFIT = "the template does not fit it"
DELIMITERS = {"csv": ",", "tsv": "\t"}
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def format_by_ending(path: str | None) -> str | None:
    """The format that a file's ending says: text without a file, None for an ending that says nothing."""
    return "text" if path is None else ENDINGS.get(os.path.splitext(path)[1].lower())


class TextSink(Protocol):
    """What writers write to: an open text file will do."""

    def write(self, text: str, /) -> object:
        """Add text."""

    def flush(self) -> object:
        """Let others see it."""


class Writer:
    """Takes one result after the other; what it wrote is others' to see once the file is flushed."""

    def __init__(self, file: TextSink, num: int, min_score: float | None) -> None:
        """num: candidates per image; min_score: a caption that scores less is left empty."""
        self.file, self.num, self.min_score = file, num, min_score

    def write(self, result: Caption | ImageError) -> None:
        """Put a caption or a failure into the output."""
        raise NotImplementedError

    def close(self) -> None:
        """Complete the output."""


class Template:
    """The text written for a caption: `{caption}, photo`."""

    def __init__(self, text: str = "{caption}") -> None:
        """text: as for str.format, with the fields caption, score, log_prob, path and name (of the file, without its
        ending). Raises ValueError for any other field, or a format that does not fit."""
        self.text = text
        fields = {"caption": "", "score": 0.0, "log_prob": 0.0, "path": "", "name": ""}
        for _, name, _, _ in string.Formatter().parse(text):
            if name is not None and name not in fields:
                raise ValueError(f"no field {{{name}}}; there are {', '.join(f'{{{field}}}' for field in fields)}")
        try:
            text.format(**fields)
        except Exception as error:  # of many kinds, and of none that says more
            raise ValueError(str(error) or type(error).__name__) from None

    def fill(self, path: str, candidate: Any) -> str:
        """The text for a candidate of the image at path. Raises ImageError where one field is the format of another,
        and no format."""
        try:
            return self.text.format(
                caption=candidate.text,
                score=candidate.score,
                log_prob=candidate.log_prob,
                path=path,
                name=os.path.splitext(os.path.basename(path))[0],
            )
        except ValueError as error:
            raise ImageError(path, f"{TEMPLATE_MISFIT}: {error}", TEMPLATE_MISFIT) from None


CAPTION_ALONE = Template()


def make_writer(
    name: str,
    file: TextSink,
    several: bool,
    num: int,
    template: Template = CAPTION_ALONE,
    min_score: float | None = None,
    heading: bool = True,
    marks: bool = False,
) -> Writer:
    """The writer for a format of FORMATS.

    several: whether text lines name the image. num: candidates per image, with their scores if more than one. template:
    shapes the text format. min_score: a caption that scores less is left empty. heading: whether CSV and TSV begin
    with the names of the columns. marks: whether text lines say which captions are unsure, as people want it and
    programs do not; all other formats do.
    """
    if name == "text":
        return TextWriter(file, several, num, template, min_score, marks)
    if name in DELIMITERS:
        return TableWriter(file, num, min_score, DELIMITERS[name], heading)
    return (JsonWriter if name == "json" else JsonLinesWriter)(file, num, min_score)


class TextWriter(Writer):
    """One caption per line: `caption`, `path<TAB>caption`, and a score before the caption where there are several.

    marks: whether `<TAB>(unsure)` follows the first of an image of which the model is unsure.
    """

    def __init__(
        self, file: TextSink, several: bool, num: int, template: Template, min_score: float | None, marks: bool
    ) -> None:
        super().__init__(file, num, min_score)
        self.several, self.template, self.marks = several, template, marks

    def write(self, result: Caption | ImageError) -> None:
        """Failures have no place among the captions: they go to stderr only."""
        if isinstance(result, Exception):
            return
        path = on_one_line(result.path)
        lines = []
        for rank, candidate in enumerate(result.candidates[: self.num]):
            text = "" if is_rejected(candidate, self.min_score) else self.template.fill(path, candidate)
            columns = [path] if self.several else []
            columns += [f"{candidate.score:.4f}"] if self.num > 1 else []
            columns += [text]
            columns += ["(unsure)"] if self.marks and result.unsure and not rank else []
            lines.append("\t".join(columns) + "\n")
        self.file.write("".join(lines))


class JsonLinesWriter(Writer):
    """One JSON object per line."""

    def write(self, result: Caption | ImageError) -> None:
        """A row for a caption or a failure."""
        self.file.write(dump(as_row(result, self.num, self.min_score)) + "\n")


class JsonWriter(Writer):
    """The same rows as one JSON array."""

    lead = "["

    def write(self, result: Caption | ImageError) -> None:
        """A row for a caption or a failure."""
        self.file.write(f"{self.lead}\n{dump(as_row(result, self.num, self.min_score))}")
        self.lead = ","

    def close(self) -> None:
        """End the array."""
        self.file.write("[]\n" if self.lead == "[" else "\n]\n")


class TableWriter(Writer):
    """CSV or TSV, a record per image: path, caption, log_prob, score, the same three numbered 2 … for the other
    candidates, error, unsure: `true` or nothing. Quoted as RFC 4180 has it, lines ending in a bare line feed."""

    def __init__(self, file: TextSink, num: int, min_score: float | None, delimiter: str, heading: bool) -> None:
        super().__init__(file, num, min_score)
        self.table = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        self.quoted = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        self.heading = columns(num) if heading else None  # until the first record: without one there is no output

    def write(self, result: Caption | ImageError) -> None:
        """A record for a caption or a failure."""
        if self.heading:
            self.table.writerow(self.heading)
            self.heading = None
        row = as_row(result, self.num, self.min_score)
        cells: list[Any] = []
        for candidate in row.get("candidates", [row] if "caption" in row else []):
            cells += [candidate["caption"], candidate["log_prob"], candidate["score"]]
        cells += [None] * (3 * self.num - len(cells))
        # Before Python 3.13 a carriage return alone is not quoted, and would end the record for who reads it.
        table = self.quoted if "\r" in row["path"] else self.table
        table.writerow([row["path"], *cells, row.get("error"), "true" if row.get("unsure") else None])


def columns(num: int) -> list[str]:
    """The names of the columns of a table with num candidates per image."""
    numbers = ["", *(f"_{i}" for i in range(2, num + 1))]
    return ["path", *(f"{name}{i}" for i in numbers for name in ("caption", "log_prob", "score")), "error", "unsure"]


def is_rejected(candidate: Any, min_score: float | None) -> bool:
    """Whether a candidate scores too low to be given."""
    return min_score is not None and candidate.score < min_score


def as_row(result: Caption | ImageError, num: int, min_score: float | None = None) -> dict[str, Any]:
    """`{"path", "caption", "log_prob", "score"}`, `"unsure": true` where the caption is, `candidates` too if num > 1;
    `{"path", "error"}` for a failure."""
    if isinstance(result, Exception):
        return {"path": result.path, "error": result.reason}
    row = {"path": result.path, **as_candidate(result, min_score)} | ({"unsure": True} if result.unsure else {})
    if num > 1:
        row["candidates"] = [as_candidate(candidate, min_score) for candidate in result.candidates]
    return row


def as_candidate(candidate: Any, min_score: float | None = None) -> dict[str, Any]:
    """`{"caption", "log_prob", "score"}`; the caption is None where it scores less than min_score."""
    return {
        "caption": None if is_rejected(candidate, min_score) else candidate.text,
        "log_prob": round(candidate.log_prob, 4),
        "score": round(candidate.score, 4),
    }


def dump(value: Any, indent: int | None = None) -> str:
    """JSON in UTF-8, but escaped where a file name is not valid UTF-8, so that it can be read back."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isascii() or is_encodable(text) else json.dumps(value, indent=indent)


def is_encodable(text: str) -> bool:
    """Whether the text has no stray surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def on_one_line(path: str) -> str:
    """Return a file name with `\\t`, `\\n`, `\\r` and `\\\\` for tabs, line ends and backslashes: a line stays a line,
    and the name can be told from it.

    Windows separates folders by backslashes and allows the others in no name: there is nothing to tell apart.
    """
    return path if os.sep == "\\" else path.translate(ESCAPES)
