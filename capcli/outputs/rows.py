"""Rows of captions in any format: what they hold, and what all formats share."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from capcli.files import OutputError
from capcli.outputs.existing import HOLE, put_in
from capcli.outputs.sink import Sink
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.files import OutputFile
    from capcli.results import Caption, Kind


@dataclass(frozen=True)
class Layout:
    """Describe the content of rows.

    num: candidates per image, 1 or more; above 1, with scores.
    min_confidence: captions less likely right are left empty; None keeps all.
    template: words lines of text.
    names_images: whether lines of text begin with the image's path.
    marks_unsure: whether lines of text mark unsure captions, for people, not programs; other formats always do.
    separator: joins candidates into one text.
    keeps_unsure: whether texts keep unsure captions that they cannot mark.
    """

    num: int = 1
    min_confidence: float | None = None
    template: Template = CAPTION_ALONE
    names_images: bool = True
    marks_unsure: bool = False
    keywords: bool = False
    separator: str = "\n"
    keeps_unsure: bool = False


class Rows(Sink):
    """Write a row for each result; each subclass is a format.

    name: as `--format` takes it.
    endings: of file names, in lower case with dots.
    resumable: whether a later run can continue a file.
    at_once: whether a file appears only once complete.
    streams: whether stdout can take it.
    templated: whether the template words its captions.
    joins: whether candidates become one text.
    line_ends_quoted: whether a quoted line end is part of a record.
    shows_end: whether a record shows that it is complete, so that the last needs no line end.
    """

    name: ClassVar[str]
    endings: ClassVar[tuple[str, ...]]
    resumable: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    templated: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    line_ends_quoted: ClassVar[bool] = False
    shows_end: ClassVar[bool] = True
    path: str | os.PathLike[str]

    def __init__(self, file: OutputFile, layout: Layout, finished: dict[str, bool] | None = None) -> None:
        """Begin or continue an output.

        finished: images with rows in the file, name → whether the row has a caption; None if no later run can continue
            the output.
        """
        self.file, self.layout, self.path = file, layout, file.path
        self.marks_unsure = layout.marks_unsure or not self.templated
        self.finished = finished or {}
        self.remembers = finished is not None

    def name_of(self, image: str) -> str:
        """Return an image's name in rows. Raises ImageError if it has none."""
        return image

    def place_of(self, name: str) -> str:
        """Return one spelling for a name that can be spelt in several ways."""
        return real_place(name)

    @functools.cached_property
    def places(self) -> dict[str, bool]:
        """Return `finished` by place instead of name."""
        return {self.place_of(name): captioned for name, captioned in self.finished.items()}

    def earlier(self, image: str) -> bool | None:
        """Return whether the image's row from an earlier run has a caption; None without a row.

        Raises ImageError as `name_of` does.
        """
        if not self.finished:
            return None
        name = self.name_of(image)
        if name in self.finished:
            return self.finished[name]
        return self.places.get(self.place_of(name))

    def has_row(self, image: str) -> bool:
        """Return whether an earlier run left a row of the image. Raises ImageError as `name_of` does."""
        return self.earlier(image) is not None

    def wants(self, image: str) -> bool | None:
        """Return False for an image that has its row, otherwise None. Raises ImageError as `name_of` does."""
        return False if self.has_row(image) else None

    def has(self, image: str) -> bool:
        """Return whether an earlier run left a row with a caption. Raises ImageError as `name_of` does."""
        return bool(self.earlier(image))

    def write(self, result: Caption | ImageError) -> None:
        """Add a result's row, unless its image has one.

        Raises OutputError, and BrokenPipeError if the reader has gone.
        """
        if not self.has_row(result.path):
            row = self.row(result)
            with OutputError.about(self.path):
                self.file.write(row)

    def copy(self, row: dict[str, Any]) -> None:
        """Add a row from another output, as `as_row` made it. Raises OutputError and BrokenPipeError."""
        with OutputError.about(self.path):
            self.file.write(self.encode(row))

    def row(self, result: Caption | ImageError) -> str:
        """Return a result's text. Raises ImageError if there can be none."""
        return self.encode(as_row(result, self.layout.num, self.layout.min_confidence))

    def encode(self, row: dict[str, Any]) -> str:
        """Return the text of a row from `as_row`."""
        raise NotImplementedError

    def leaves_out(self, row: dict[str, Any]) -> bool:
        """Return whether a row's caption is unsure and could not be marked."""
        return bool(row.get("unsure")) and not (self.marks_unsure or self.layout.keeps_unsure)

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
        """Abandon the output, keeping its content."""
        self.file.discard()

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        """Return the bytes that every file of this format and layout begins with."""
        return b""

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a record's row as `as_row` made it; without a path for a heading.

        record: from `records`.
        layout: of the file.

        Raises ValueError, TypeError, AttributeError, LookupError or RecursionError if capcli did not write it.
        """
        raise NotImplementedError

    @classmethod
    def records(cls, file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """Yield each record of a file, ending in a line feed, and whether the file has that line end.

        Only the last may lack it, after a killed run or an editor.
        """
        record = b""
        for line in file:
            record += line
            if line.endswith(b"\n") and not (cls.line_ends_quoted and record.count(b'"') % 2):
                yield (record[:-2] + b"\n" if record.endswith(b"\r\n") else record), True
                record = b""
        if record:
            yield record.removesuffix(b"\r") + b"\n", False


def is_rejected(caption: Caption, min_confidence: float | None) -> bool:
    """Return whether a caption is less likely right than min_confidence; None rejects none."""
    return min_confidence is not None and caption.confidence is not None and caption.confidence < min_confidence


def as_row(result: Caption | ImageError, num: int, min_confidence: float | None = None) -> dict[str, Any]:
    """Return a result as a row of JSON.

    `{"path", "caption", "log_prob", "score"}`, with `"confidence"` and `"kinds"` if the checkpoint tells them,
    `"unsure": true` if it is, `"candidates"` for num above 1, and `"keywords"` if asked for; for a failure,
    `{"path", "error"}`.

    num: candidates per image, 1 or more.
    min_confidence: captions less likely right are None; None keeps all.
    """
    if isinstance(result, Exception):
        return {"path": result.path, "error": result.reason}
    hidden = is_rejected(result, min_confidence)
    row = {"path": result.path, **as_candidate(result, hidden)}
    row |= {} if result.confidence is None else {"confidence": round(result.confidence, 4)}
    row |= {"unsure": True} if result.unsure else {}
    row |= {"kinds": kinds_in_row(result.kinds)} if result.kinds else {}
    if num > 1:
        row["candidates"] = [as_candidate(candidate, hidden) for candidate in result.candidates]
    if result.keywords is not None:
        row["keywords"] = [] if hidden else list(result.keywords)
    return row


def kinds_in_row(kinds: Iterable[Kind]) -> list[dict[str, Any]]:
    """Return kinds as `{"name", "probability"}`."""
    return [{"name": kind.name, "probability": round(kind.probability, 4)} for kind in kinds]


def worded_row(result: Caption | ImageError, layout: Layout, escape: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a result's row with captions worded by the layout's template.

    escape: applied to names and paths in templates.

    Raises ImageError as `Template.fill` does.
    """
    row = as_row(result, layout.num, layout.min_confidence)
    if not isinstance(result, Exception) and not is_rejected(result, layout.min_confidence):
        for shown, candidate in zip(row.get("candidates", [row]), result.candidates, strict=False):
            text = layout.template.fill(result.path, candidate, escape, result.keywords)
            shown["caption"] = put_in("", text) if HOLE in text else text
    return row


def as_candidate(candidate: Any, hidden: bool = False) -> dict[str, Any]:
    """Return `{"caption", "log_prob", "score"}`; the caption is None if empty or hidden.

    Numbers are None where a caption has none, such as a person's.
    """
    numbers = {"log_prob": candidate.log_prob, "score": candidate.score}
    return {
        "caption": None if hidden else candidate.text or None,
        **{name: None if math.isnan(number) else round(number, 4) for name, number in numbers.items()},
    }


def as_read(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row read from any format as `as_row` made it.

    row: may have an empty caption, and lack log_prob, score, confidence, unsure, kinds and keywords.

    Raises ValueError, TypeError, AttributeError or KeyError for anything else.
    """
    known = {"path", "caption", "log_prob", "score", "confidence", "unsure", "kinds", "candidates", "keywords", "error"}
    if not isinstance(row["path"], str) or not row.keys() <= known:
        raise ValueError
    if row.get("error"):
        return {"path": row["path"], "error": str(row["error"])}
    read = {"path": row["path"], **candidate_as_read(row)}
    if (confidence := row.get("confidence")) is not None:
        read["confidence"] = probability(confidence)
    read |= {"unsure": True} if row.get("unsure") else {}
    kinds = [
        {"name": str(kind["name"]), "probability": probability(kind["probability"])} for kind in row.get("kinds") or ()
    ]
    candidates = [candidate_as_read(candidate) for candidate in row.get("candidates") or ()]
    keywords = list(row.get("keywords") or ())
    if not all(isinstance(keyword, str) for keyword in keywords):
        raise TypeError
    lists = {"kinds": kinds, "candidates": candidates, "keywords": keywords}
    return read | {name: value for name, value in lists.items() if value}


def probability(value: Any) -> float:
    """Return a number in 0 … 1. Raises ValueError and TypeError for anything else."""
    if isinstance(value, (str, bool)) or not 0 <= value <= 1:
        raise ValueError
    return float(value)


def candidate_as_read(candidate: dict[str, Any]) -> dict[str, Any]:
    """Return a candidate of a row that was read; see `as_read`."""
    caption, numbers = candidate["caption"], {name: candidate.get(name) for name in ("log_prob", "score")}
    if not (caption is None or isinstance(caption, str)):
        raise TypeError
    if not all(number is None or math.isfinite(number) for number in numbers.values()):
        raise ValueError
    return {"caption": caption or None, **numbers}


def real_place(path: str) -> str:
    """Return the one path that all spellings mean: absolute, with links to folders resolved.

    A link to a file stays, since a listing has it beside the file.
    """
    from capcli.images.decode import STANDARD_INPUT  # here, as help needs no Pillow

    if path == STANDARD_INPUT:
        return path
    folder, name = os.path.split(path)
    try:
        return os.path.normcase(os.path.join(real_folder(os.path.join(os.getcwd(), folder)), name))
    except (OSError, ValueError):  # the current folder is gone, or the name is impossible
        return path


@functools.lru_cache(maxsize=1000)
def real_folder(folder: str) -> str:
    """Return an absolute folder's real path, cached, as each of its files asks for it."""
    return os.path.realpath(folder)


def is_encodable(text: str) -> bool:
    """Return whether a text can be UTF-8; surrogates stand for names that are not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
