"""Captions made elsewhere, read from a file and matched with a data set's photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from capcli.images.find import coco_id
from capcli.training.data.captions import ROWS, rows_of
from capcli.training.data.datasets import DataError, Photo, load_json

FORMS = 'captions are COCO\'s results, [{"image_id": 42, "caption": "a cat"}, …], or what capcli writes'
NAMES = ("path", "file_name", "image", "image_name", "file_path", "image_id")


def read_given(path: Path, photos: Sequence[Photo]) -> list[str]:
    """Return a file's captions of photos, in the photos' order; of several candidates the first.

    The file is JSON in COCO's form for results, `[{"image_id", "caption"}]`, or rows as capcli writes them: JSON, JSON
    Lines, CSV or TSV, or the JSON of `capcli evaluate`. A row's photo is found by path, else by file name; an image_id
    is the number ending the file's name. A row without a caption counts as an empty one.

    Raises DataError for a file in another form or without one of the photos.
    """
    said: dict[str | int, str] = {}
    for where, row in read_given_rows(path):
        try:
            name, caption = read_given_row(row)
        except ValueError as error:
            raise DataError(f"{path}: {where}: {error}; {FORMS}") from None
        said.setdefault(name, caption)
    names = Counter(Path(name).name if isinstance(name, str) else name for name in said)
    said = {key: text for name, text in said.items() for key in all_names(name) if key == name or names[key] == 1}
    captions = [next((said[key] for key in keys_of(photo.path) if key in said), None) for photo in photos]
    if missing := [photo.path for photo, caption in zip(photos, captions, strict=True) if caption is None]:
        raise DataError(f"{path}: has no caption of {len(missing)} of {len(photos)} photos; the first is {missing[0]}")
    return [caption for caption in captions if caption is not None]


def read_given_row(row: Any) -> tuple[str | int, str]:
    """Return a row's name for its photo, and its caption or "". Raises ValueError."""
    if not isinstance(row, dict):
        raise ValueError(f"{brief(row)} where a caption should be")
    name = next((row[key] for key in NAMES if isinstance(row.get(key), int | str) and row[key] != ""), None)
    if name is None:
        raise ValueError(f"{brief(row)} names no photo")
    found = [row[key] for key in ("caption", "text", "comment") if key in row] or ([None] if row.get("error") else [])
    if not found or not isinstance(found[0], str | None):
        raise ValueError(f"no caption of {name}")
    return name, " ".join((found[0] or "").split())


def all_names(name: str | int) -> set[str | int]:
    """Return a photo's name in a row, with and without its folder."""
    return {name, Path(name).name} if isinstance(name, str) else {name}


def keys_of(photo: Path) -> Iterator[str | int]:
    """Yield a photo's possible names in a file of captions, surest first."""
    yield from (str(photo), photo.name, photo.stem)
    if (number := coco_id(photo)) is not None:
        yield from (number, str(number))


def read_given_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield a file's rows, each with its place for messages. Raises DataError."""
    if path.suffix.lower() in ROWS:
        try:
            yield from ((f"line {number}", row) for number, row in rows_of(path))
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        except OSError as error:
            raise DataError(f"{path}: {(error.strerror or str(error)).lower()}") from None
        return
    content = load_json(path, FORMS)
    rows = content.get("captions") if isinstance(content, dict) else content  # of `capcli evaluate --json`
    if not isinstance(rows, list):
        raise DataError(f"{path}: not a list of captions; {FORMS}")
    yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
