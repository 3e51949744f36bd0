"""Captioned photos in the forms that `capcli caption` writes: rows, sidecars, and ImageFolder's metadata."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from capcli.images.find import Selection, find_images
from capcli.model.vocabulary import tokenize

METADATA = ("metadata.jsonl", "metadata.csv")  # ImageFolder's
ROWS = (".jsonl", ".ndjson", ".csv", ".tsv")
SIDECARS = (".caption", ".txt")  # where a photo has both, the second often holds tags


def read_rows(path: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Yield each captioned photo of a file: its name, its captions, and whether the name is relative to the file.

    Rows are capcli's, with `path` and `caption`, or ImageFolder's, with `file_name` and `text`. Those with an error and
    those without a caption are passed over.

    path: of JSON Lines, CSV or TSV; others are JSON Lines to it.

    Raises ValueError, which says what is wrong and where, and OSError.
    """
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    if path.suffix.lower() in (".csv", ".tsv"):
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        rows: Iterator[tuple[int, Any]] = ((table.line_num, row) for row in table)
    else:
        rows = json_lines(text)
    try:
        for number, row in rows:
            try:
                found = read_row(row)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if found[1]:
                yield found
    except csv.Error as error:
        raise ValueError(str(error)) from None


def json_lines(text: str) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each line that is not empty. Raises ValueError."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise ValueError(f"line {number} is not JSON") from None


def read_row(row: Any) -> tuple[str, list[str], bool]:
    """Return the name of a row's photo, its captions, and whether the name is ImageFolder's. Raises ValueError."""
    if not isinstance(row, dict):
        raise ValueError(f"{brief(row)} where a photo should be")
    relative = "file_name" in row
    name = row.get("file_name" if relative else "path")
    if not isinstance(name, str) or not name:
        raise ValueError("no path or file_name")
    if row.get("error"):
        return name, [], relative
    key = next((key for key in (("text", "caption") if relative else ("caption", "text")) if key in row), None)
    if key is None:
        raise ValueError(f"no caption or text of {name}")
    found = row[key] if isinstance(row[key], list) else [row[key]]
    if candidates := row.get("candidates"):
        found = [each.get("caption") if isinstance(each, dict) else each for each in candidates]
    number = 2
    while f"{key}_{number}" in row:  # a table's other candidates
        found.append(row[f"{key}_{number}"])
        number += 1
    captions = [caption for caption in found if caption not in (None, "")]
    for caption in captions:
        if not isinstance(caption, str) or not tokenize(caption):
            raise ValueError(f"a caption of {name} has no word: {brief(caption)}")
    return name, captions, relative


def read_sidecars(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield each photo in a folder and below that has a text beside it, and the text's lines, each a caption.

    folder: of photos, and `.caption` or `.txt` files named as they are.

    Raises ValueError and OSError.
    """
    for image in find_images([os.fspath(folder)], Selection(), lambda path: None):
        beside = [Path(os.path.splitext(image)[0] + ending) for ending in SIDECARS] if isinstance(image, str) else []
        sidecar = next((path for path in beside if path.is_file()), None)
        if sidecar is None or not isinstance(image, str):
            continue
        try:
            lines = sidecar.read_text("utf-8-sig").splitlines()
        except UnicodeError:
            raise ValueError(f"{sidecar.name} is not text in UTF-8") from None
        if captions := [line.strip() for line in lines if tokenize(line)]:
            yield Path(image), captions
