"""Captions as text, JSON Lines and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from capcli.captioner import Caption
    from capcli.images import ImageError

FORMATS = ("text", "json", "jsonl")


class Writer(Protocol):
    """Takes one result after the other."""

    def write(self, result: Caption | ImageError) -> None:
        """Put a caption or a failure into the output."""

    def close(self) -> None:
        """Complete the output."""


def make_writer(name: str, file: TextIO, several: bool, num: int) -> Writer:
    """The writer for a format of FORMATS.

    several: whether text lines name the image; num: candidates per image, with their scores if more than one.
    """
    if name == "text":
        return TextWriter(file, several, num)
    return JsonWriter(file, num) if name == "json" else JsonLinesWriter(file, num)


class TextWriter:
    """One caption per line: `caption`, `path<TAB>caption`, and a score before the caption where there are several."""

    def __init__(self, file: TextIO, several: bool, num: int) -> None:
        self.file, self.several, self.num = file, several, num

    def write(self, result: Caption | ImageError) -> None:
        """Failures have no place among the captions: they go to stderr only."""
        for candidate in getattr(result, "candidates", ())[: self.num]:
            columns = [on_one_line(result.path)] if self.several else []
            columns += [f"{candidate.score:.4f}"] if self.num > 1 else []
            self.file.write("\t".join([*columns, candidate.text]) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class JsonLinesWriter:
    """One JSON object per line, written as soon as it is known."""

    def __init__(self, file: TextIO, num: int) -> None:
        self.file, self.num = file, num

    def write(self, result: Caption | ImageError) -> None:
        """A row for a caption or a failure."""
        self.file.write(dump(as_row(result, self.num)) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Nothing is left to write."""


class JsonWriter:
    """The same rows as one JSON array."""

    def __init__(self, file: TextIO, num: int) -> None:
        self.file, self.num = file, num
        self.lead = "["

    def write(self, result: Caption | ImageError) -> None:
        """A row for a caption or a failure."""
        self.file.write(f"{self.lead}\n{dump(as_row(result, self.num))}")
        self.lead = ","

    def close(self) -> None:
        """End the array."""
        self.file.write("[]\n" if self.lead == "[" else "\n]\n")
        self.file.flush()


def as_row(result: Caption | ImageError, num: int) -> dict[str, Any]:
    """`{"path", "caption", "log_prob", "score"}`, `candidates` too if num > 1; `{"path", "error"}` for a failure."""
    if isinstance(result, Exception):
        return {"path": result.path, "error": result.reason}
    row = {"path": result.path, **as_candidate(result)}
    if num > 1:
        row["candidates"] = [as_candidate(candidate) for candidate in result.candidates]
    return row


def as_candidate(candidate: Any) -> dict[str, Any]:
    """`{"caption", "log_prob", "score"}`."""
    return {
        "caption": candidate.text,
        "log_prob": round(candidate.log_prob, 4),
        "score": round(candidate.score, 4),
    }


def dump(row: dict[str, Any]) -> str:
    """JSON in UTF-8, but escaped where a file name is not valid UTF-8, so that it can be read back."""
    text = json.dumps(row, ensure_ascii=False)
    return text if text.isascii() or is_encodable(text) else json.dumps(row)


def is_encodable(text: str) -> bool:
    """Whether the text has no stray surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def on_one_line(path: str) -> str:
    """A file name in which tabs and line ends are escaped, so that a line stays a line."""
    return (
        path.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
        if (any(c in path for c in "\t\n\r"))
        else path
    )
