"""The list of corrected captions, which `capcli train`, `evaluate` and `teach` read; every save replaces the file."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capcli.files import WholeFile, errors_name, sync_folder, write_whole
from capcli.outputs.formats import dump

FILE = "corrections.json"
# Where training looks for a photo, in this order; see `capcli.training.datasets.locate`.
PHOTO_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")
Row = dict[str, Any]


class CorrectionsError(Exception):
    """Report a file that is no list of captioned photos; str() is one line with the file and the reason."""


class Corrections:
    """Hold the rows of the file, `{"file_path", "captions"}` and whatever else is in them, by their photos.

    What other programs and people change in the file meanwhile is read before the next save. One run of capcli at a
    time has the file.
    """

    def __init__(self, path: Path) -> None:
        """Lock the file, and read it if it exists.

        path: of the file.

        Raises CorrectionsError, and OSError with the file's name; its errno is EBUSY if another run has the file.
        """
        self.path = Path(os.path.realpath(path))
        with errors_name(path):
            self.lock = WholeFile(
                self.path.with_name(f".{self.path.name}.lock")
            )  # never written; hidden: no photo's sidecar
        self.rows: dict[str, Row] = {}
        self.state: tuple[int, ...] | None = None
        try:
            self.read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other runs have the file."""
        self.lock.discard()

    def read(self) -> bool:
        """Read the file if it is another than it was, and return whether it is.

        Raises CorrectionsError, and OSError with the file's name.
        """
        state = self.look()
        if state == self.state:
            return False
        rows: dict[str, Row] = {}
        for row in self.parse(self.path.read_bytes()) if state is not None else ():
            place = self.locate(row["file_path"])
            if place in rows:  # training takes all captions of a photo as well
                row = rows[place] | {"captions": rows[place]["captions"] + row["captions"]}
            rows[place] = row
        self.rows, self.state = rows, state
        return True

    def look(self) -> tuple[int, ...] | None:
        """Return what changes when the file does; None while there is none. Raises CorrectionsError."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise CorrectionsError(f"{self.path}: not a regular file")
        return found.st_ino, found.st_size, found.st_mtime_ns

    def parse(self, content: bytes) -> list[Row]:
        """Return the rows of a file. Raises CorrectionsError."""
        wrong = f'{self.path}: not a list of captioned photos, [{{"file_path": "a.jpg", "captions": ["a cat"]}}, …]'
        try:
            rows = json.loads(content)
        except (ValueError, RecursionError):
            raise CorrectionsError(wrong) from None
        if not isinstance(rows, list) or not all(map(is_row, rows)):
            raise CorrectionsError(wrong)
        return rows

    def locate(self, name: str) -> str:
        """Return the place of the photo that a row names, as training finds it."""
        places = [self.path.parent / folder / name for folder in PHOTO_FOLDERS]
        return place_of(next(filter(os.path.isfile, places), places[-1]))

    def name(self, photo: str) -> str:
        """Return how a row names a photo: relative to the file, if training then finds this photo and no other."""
        place = place_of(photo)
        with contextlib.suppress(ValueError):  # on another drive
            name = os.path.relpath(place, self.path.parent)
            if self.locate(name) == place:
                return name
        return place

    def row(self, photo: str) -> Row | None:
        """Return the row of a photo, None if it has none."""
        return self.rows.get(place_of(photo))

    def put(self, changes: Mapping[str, Row | None]) -> None:
        """Change rows; they are on the disk when this returns.

        changes: the new row of each photo, by its path; None removes it.

        Raises OSError with the file's name, after which the file is as it was.
        """
        rows = self.rows.copy()
        for photo, row in changes.items():
            place = place_of(photo)
            if row is None:
                rows.pop(place, None)
            else:
                rows[place] = row
        lines = ",\n".join(map(dump, rows.values()))
        content = f"[\n{lines}\n]\n" if rows else "[]\n"
        write_whole(self.path, content.encode(), like=self.path if self.path.exists() else None)
        sync_folder(self.path.parent)
        self.rows, self.state = rows, self.look()


def is_row(row: Any) -> bool:
    """Return whether a decoded value describes a captioned photo."""
    if not isinstance(row, dict) or not isinstance(row.get("file_path"), str):
        return False
    captions = row.get("captions")
    return isinstance(captions, list) and bool(captions) and all(isinstance(caption, str) for caption in captions)


def place_of(photo: str | os.PathLike[str]) -> str:
    """Return one name for a photo, however its folders are named; a photo that is a link is another than its target."""
    folder, name = os.path.split(photo)
    return os.path.join(os.path.realpath(folder), name)
