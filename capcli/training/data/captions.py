"""Captions in rows, tables and sidecars: capcli's, ImageFolder's, Kaggle's."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from capcli.images.find import find_images
from capcli.model.vocabulary import tokenize

METADATA = ("metadata.jsonl", "metadata.csv")  # ImageFolder's
ROWS = (".jsonl", ".ndjson", ".csv", ".tsv")
TABLES = ("captions.txt", "results.csv")  # Kaggle's Flickr8k and Flickr30k
IMAGES = ("image", "image_name")  # their columns of photos
SIDECARS = (".caption", ".txt")  # of a photo with both, the second often holds tags


def read_rows(path: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Yield a file's captioned photos: name, captions, and whether the name is relative to the file.

    Rows have `path` and `caption` (capcli's), `file_name` and `text` (ImageFolder's), `image` and `caption`, or
    `image_name` and `comment`. Those with an error or no caption are skipped.

    path: CSV with commas or bars, or TSV; else JSON Lines.

    Raises ValueError with the line and reason, and OSError.
    """
    for number, row in rows_of(path):
        try:
            found = read_caption_row(row)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if found[1]:
            yield found


def rows_of(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield each row of a file for `read_rows`, with the number of its last line.

    Raises ValueError and OSError.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    if path.suffix.lower() in (".csv", ".txt") and "|" in text.partition("\n")[0]:
        yield from barred(text)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            yield from ((table.line_num, row) for row in table)
        except csv.Error as error:
            raise ValueError(str(error)) from None
    else:
        yield from json_lines(text)


def is_table(path: Path) -> bool:
    """Return whether a file's first line names a column of photos, as in Kaggle's data sets. Raises nothing."""
    try:
        if not path.is_file() or path.suffix.lower() not in (".txt", ".csv"):
            return False
        with path.open("rb") as file:
            head = file.readline(1000).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return not {cell.strip() for cell in re.split("[,|]", head)}.isdisjoint(IMAGES)


def barred(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells of each row of Flickr30k's table, split at `|` and never quoted."""
    head, *lines = text.splitlines()
    names = [name.strip() for name in head.split("|")]
    for number, line in enumerate(lines, 2):
        # One of its rows has blanks instead of the second bar.
        line = re.sub(r"^([^|]*\|\s*\d+)\s+(?![\s|])", r"\1|", line)
        cells = [cell.strip() for cell in line.split("|", len(names) - 1)]
        if line.strip():
            yield number, dict(zip(names, cells, strict=False))


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line that isn't empty. Raises ValueError."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise ValueError(f"line {number} is not JSON") from None


def read_caption_row(row: Any) -> tuple[str, list[str], bool]:
    """Return a row's photo name, its captions, and whether the name is relative, which all but `path` columns hold.

    A row with an error has no captions; empty ones are dropped. Raises ValueError for a row without a name or captions.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{brief(row)} where a photo should be")
    column = next((column for column in ("file_name", *IMAGES) if column in row), "path")
    name, relative = row.get(column), column != "path"
    if not isinstance(name, str) or not name:
        raise ValueError("no path, file_name or image")
    if row.get("error"):
        return name, [], relative
    keys = ("text", "caption", "comment") if column == "file_name" else ("caption", "text", "comment")
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise ValueError(f"no caption or text of {name}")
    found = row[key] if isinstance(row[key], list) else [row[key]]
    if candidates := row.get("candidates"):
        found = [each.get("caption") if isinstance(each, dict) else each for each in candidates]
    number = 2
    while f"{key}_{number}" in row:  # further candidates, in columns of their own
        found.append(row[f"{key}_{number}"])
        number += 1
    captions = [caption for caption in found if caption not in (None, "")]
    for caption in captions:
        if not isinstance(caption, str) or not tokenize(caption):
            raise ValueError(f"a caption of {name} has no word: {brief(caption)}")
    return name, captions, relative


def read_sidecars(folder: Path, check: Callable[[Path], None]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each photo in or below a folder with a text beside it, and the text's lines as captions.

    folder: photos, and `.caption` or `.txt` files of the same names.
    check: raises if a text may not be read.

    Raises ValueError and OSError.
    """
    for image in find_images([os.fspath(folder)]):
        beside = [Path(os.path.splitext(image)[0] + ending) for ending in SIDECARS] if isinstance(image, str) else []
        sidecar = next((path for path in beside if path.is_file()), None)
        if sidecar is None or not isinstance(image, str):
            continue
        check(sidecar)
        try:
            lines = sidecar.read_text("utf-8-sig").splitlines()
        except UnicodeError:
            raise ValueError(f"{sidecar.name} is not text in UTF-8") from None
        if captions := [line.strip() for line in lines if tokenize(line)]:
            yield Path(image), captions
