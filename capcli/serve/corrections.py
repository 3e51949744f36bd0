"""The list of corrected captions for `capcli train`, `evaluate` and `teach`; each save replaces the file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any

from capcli.files import WholeFile, errors_name, sync_folder, write_whole
from capcli.images.find import PHOTO_FOLDERS
from capcli.model.vocabulary import tokenize
from capcli.outputs.formats import dump
from capcli.outputs.originals import UntouchableError, original
from capcli.serve.journal import Journal

FILE = "corrections.json"
Row = dict[str, Any]
DIVIDER = ",\n"  # between rows
SPACE = re.compile(r"[ \t\n\r]*")
FORM = '{"file_path": "a.jpg", "captions": ["a cat"]}'
NO_LIST = f"not a list of captioned photos, [{FORM}, …]"
KARPATHY = "in Karpathy's form, which works for training, but not for corrections"


class CorrectionsError(Exception):
    """Report a file that is no list of captioned photos, in one line."""


class Kept(Row):
    """Hold a row as the file has it.

    text: its JSON.
    lead: the text between it and the row before.
    place: its photo, as `place_of` names it.
    """

    def __init__(self, row: Row, text: str, lead: str, place: str) -> None:
        super().__init__(row)
        self.text, self.lead, self.place = text, lead, place


class Corrections:
    """Hold the file's rows, `{"file_path", "captions"}` and more, by photo.

    A photo's first row counts; training takes all. Unchanged rows stay byte for byte. Others' changes are read before
    each save. One run of capcli at a time has the file.
    """

    def __init__(self, path: Path, places: Iterable[tuple[str, str]] = ()) -> None:
        """Lock the file, take back what a killed save left, and read it if it exists.

        places: besides the file's own folder, as in `Journal`.

        Raises CorrectionsError, or OSError with the file's name; EBUSY if another run has it.
        """
        self.path = Path(os.path.realpath(path))
        with errors_name(path):
            # Stays empty; hidden, so as not to be a photo's sidecar.
            self.lock = WholeFile(self.path.with_name(f".{self.path.name}.lock"))
        self.journal = Journal(self.path, places)
        self.left: list[str] = []  # lines about files changed since, so not taken back
        self.clear()
        try:
            self.read()
            self.check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the file to other runs."""
        self.lock.discard()

    def clear(self) -> None:
        self.take([])
        self.opening, self.closing, self.encoding = "[\n", "\n]\n", "utf-8"  # around the rows
        self.empty = "[]\n"  # the file without any row
        self.state: tuple[int, ...] | None = None

    def take(self, listed: list[Kept]) -> None:
        """Take the file's rows, in order."""
        self.listed = listed
        self.rows = {row.place: row for row in reversed(listed)}

    def read(self) -> bool:
        """Read the file if it has changed, and return whether it had.

        Raises CorrectionsError, or OSError with the file's name.
        """
        self.left += self.journal.take_back()
        state = self.look()
        if state == self.state:
            return False
        if state is None:
            self.clear()
        else:
            self.parse(self.path.read_bytes())
        self.state = state
        return True

    def look(self) -> tuple[int, ...] | None:
        """Return the file's inode, size and time, None without a file. Raises CorrectionsError if it is not regular."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise CorrectionsError(f"{self.path}: not a regular file")
        return found.st_ino, found.st_size, found.st_mtime_ns

    def check(self) -> None:
        """Raise OSError with the file's name if it must not be changed."""
        try:
            original(os.fspath(self.path))
        except UntouchableError as error:
            raise OSError(errno.EPERM, str(error), os.fspath(self.path)) from None

    def parse(self, content: bytes) -> None:
        """Take a file's rows, with the text around them. Raises CorrectionsError."""
        encoding = json.detect_encoding(content)
        try:
            text = content.decode(encoding, "surrogatepass")
            rows = json.loads(text)
        except (ValueError, RecursionError):
            raise CorrectionsError(f"{self.path}: {NO_LIST}") from None
        if isinstance(rows, dict) and "images" in rows:
            raise CorrectionsError(f"{self.path}: {KARPATHY}; name another file, --corrections FILE")
        if not isinstance(rows, list):
            raise CorrectionsError(f"{self.path}: {NO_LIST}")
        for number, row in enumerate(rows, 1):
            if wrong := what_is_wrong(row):
                raise CorrectionsError(f"{self.path}: row {number}{wrong}")
        listed: list[Kept] = []
        at = first = SPACE.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
        for row in rows:
            start = first if not listed else SPACE.match(text, text.index(",", at) + 1).end()  # type: ignore[union-attr]
            _, end = json.JSONDecoder().raw_decode(text, start)
            listed.append(Kept(row, text[start:end], text[at:start] or DIVIDER, self.locate(row["file_path"])))
            at = end
        self.clear()
        if listed:
            self.opening, self.closing = text[:first], text[at:]
        else:
            self.empty = text
        self.encoding = encoding
        self.take(listed)

    def locate(self, name: str) -> str:
        """Return where training finds the photo that a row names."""
        places = [self.path.parent / folder / name for folder in PHOTO_FOLDERS]
        return place_of(next(filter(os.path.isfile, places), places[-1]))

    def name(self, photo: str) -> str:
        """Return a row's name for a photo: relative to the file, if training then finds just this photo."""
        place = place_of(photo)
        with contextlib.suppress(ValueError):  # on another drive
            name = os.path.relpath(place, self.path.parent)
            if self.locate(name) == place:
                return name
        return place

    def row(self, photo: str) -> Row | None:
        """Return a photo's row, or None."""
        return self.rows.get(place_of(photo))

    def put(self, changes: Mapping[str, Row | None]) -> None:
        """Change rows; they are on disk on return.

        changes: new row by photo's path; None removes it.

        Raises OSError with the file's name; then the file is unchanged.
        """
        self.check()
        listed = self.listed.copy()
        for photo, row in changes.items():
            place = place_of(photo)
            old = self.rows.get(place)
            index = len(listed) if old is None else next(i for i, each in enumerate(listed) if each is old)
            lead = old.lead if old else listed[-1].lead if listed else DIVIDER
            text = row.text if isinstance(row, Kept) else dump(row)
            listed[index : index + 1] = [] if row is None else [Kept(row, text, lead, place)]
        texts = [text for row in listed for text in (row.lead, row.text)][1:]
        text = "".join([self.opening, *texts, self.closing]) if listed else self.empty
        content = text.encode(self.encoding, "surrogatepass")
        write_whole(self.path, content, like=self.path if self.path.exists() else None)
        sync_folder(self.path.parent)
        self.take(listed)
        self.state = self.look()


def model_of(file: str | os.PathLike[str]) -> str:
    """Return the folder of the model that is taught what a list holds. file: the list."""
    return f"{os.path.splitext(file)[0]}-model"


def what_is_wrong(row: Any) -> str:
    """Return why a decoded value is no row and what to do, to follow `row 3`; empty for a row."""
    if not isinstance(row, dict):
        return f" is {brief(row)}; write {FORM} there"
    name = row.get("file_path")
    if not isinstance(name, str):
        wrong = f"is {KARPATHY}" if "filename" in row else 'has no "file_path"'
        return f" {wrong}; write {FORM} there"
    captions = row.get("captions")
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return f' ({name}) has no list of texts as "captions"; write {FORM} there'
    if not captions or not all(map(tokenize, captions)):
        return f" ({name}) has {'a caption without a word' if captions else 'no caption'}; write one, or remove the row"
    return ""


def place_of(photo: str | os.PathLike[str]) -> str:
    """Return one name for a photo, however its folders are named; a link differs from its target."""
    folder, name = os.path.split(photo)
    return os.path.join(os.path.realpath(folder), name)
