"""Captions by image content, in an SQLite database: the file of `--cache`."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from capcli.files import OutputError
from capcli.images.decode import STANDARD_INPUT, open_file
from capcli.images.raw import is_raw
from capcli.outputs.resume import check_output
from capcli.results import Candidate, Caption, ImageError, Kind

APPLICATION = int.from_bytes(b"capc")  # marks SQLite files as ours
VERSION = 1  # of the table
TABLE = """
    CREATE TABLE IF NOT EXISTS captions (
        model BLOB NOT NULL, content BLOB NOT NULL, caption TEXT NOT NULL, PRIMARY KEY (model, content)
    )
"""
SELECT = "SELECT caption FROM captions WHERE model = ? AND content = ?"
INSERT = "INSERT OR REPLACE INTO captions VALUES (?, ?, ?)"
FIELDS = ("text", "words", "word_log_probs", "log_prob", "score")  # of a candidate: all but the attention
TIMEOUT = 60.0  # seconds to wait while another run writes
RAW = b"raw"


@dataclass(eq=False)
class Looked:
    """Hold a look into an image's file.

    image: its path, or the ImageError in its place.
    content: the file's SHA-256; None if it cannot be read, or only once.
    stamp: from `stamp_of`; None on stdin.
    result: the outcome, once known.
    """

    image: str | ImageError
    content: bytes | None = None
    stamp: tuple[int, ...] | None = None
    result: Caption | ImageError | None = None

    def is_unchanged(self) -> bool:
        """Return whether the file is still the same, so that the caption fits its content."""
        try:
            return self.stamp is None or self.stamp == stamp_of(os.stat(str(self.image)))
        except OSError:
            return False


def look(image: str | ImageError) -> Looked:
    """Look into an image's file. image: a path, or an ImageError, which passes through. Safe in any thread."""
    looked = Looked(image)
    # A pipe gives its content only once, to the captioner.
    if isinstance(image, ImageError) or not (image == STANDARD_INPUT or os.path.isfile(image)):
        return looked
    try:
        with open_file(image) as file:
            if image != STANDARD_INPUT:
                looked.stamp = stamp_of(os.fstat(file.fileno()))
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    except (OSError, ImageError):  # the captioner will report it
        return looked
    if is_raw(image):  # its ending decides which picture is read
        digest.update(RAW)
    looked.content = digest.digest()
    return looked


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Return a file's identity, size and time."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class CaptionCache:
    """Remember one model's captions; several processes may share the file.

    Around the captioner, `recall` replaces images by known captions, and `remember` keeps new ones. Later trouble with
    the file never ends the run.

    recalled: captions from the file, or from an image with the same content.
    failed: whether the file broke down.
    """

    def __init__(
        self, path: str | None, model: bytes, reads: bool = True, tell: Callable[[str], object] = lambda line: None
    ) -> None:
        """Open a cache, or make one where the file is missing or empty.

        path: None to keep it in memory.
        model: identifies what captions depend on besides images, by `Captioner.fingerprint`.
        reads: whether to take captions from it, which have no attention.
        tell: gets a line if the file breaks down.

        Raises OutputError for a file that cannot be opened, or is something else.
        """
        self.path, self.model, self.tell = path, model, tell
        self.reads, self.writes, self.failed, self.recalled = reads, True, False, 0
        self.lock = threading.Lock()
        self.in_work: dict[bytes, Looked] = {}  # images in work, by content
        self.order: deque[Looked | None] = deque()  # for each image given out, what its result belongs to
        self.connection = connect(path)
        try:
            prepare(self.connection)
        except sqlite3.Error as error:
            self.connection.close()
            raise OutputError(path or "", f"cannot be used as a cache: {error}") from None

    def recall(self, images: Iterable[Looked]) -> Iterator[str | Caption | ImageError]:
        """Yield images in order, with Captions for known ones.

        An image like one still in work gets a Caption without candidates, which `remember` fills in.
        """
        for looked in images:
            with self.lock:
                given, belongs = self.begin(looked)
                self.order.append(belongs)
            yield given

    def begin(self, looked: Looked) -> tuple[str | Caption | ImageError, Looked | None]:
        """Return an image or its caption, and the Looked that its result belongs to."""
        content, image = looked.content, looked.image
        if content is None or isinstance(image, ImageError):
            return image, None
        if not self.reads:
            return image, looked
        if content in self.in_work:
            return Caption(image, ()), self.in_work[content]
        if known := self.find(content):
            self.recalled += 1
            return replace(known, path=image), None
        self.in_work[content] = looked
        return image, looked

    def find(self, content: bytes) -> Caption | None:
        """Return the caption for this content, without a path, or None."""
        try:
            rows = self.connection.execute(SELECT, (self.model, content)).fetchall()
        except sqlite3.Error as error:
            self.reads = self.writes = False
            self.fail(f"{error}; the run goes on without it")
            return None
        return from_json(rows[0][0]) if rows else None

    def remember(self, batches: Iterable[list[Caption | ImageError]]) -> Iterator[list[Caption | ImageError]]:
        """Yield batches, after keeping their captions.

        batches: results for what `recall` yielded, in order.
        """
        for batch in batches:
            results: list[Caption | ImageError] = []
            new: list[Looked] = []
            for result in batch:
                looked = self.order.popleft()
                if looked is not None and looked.result is None:
                    looked.result = result
                    new.append(looked)
                elif looked is not None and looked.result is not None:
                    result = renamed(looked.result, result.path)
                    self.recalled += isinstance(result, Caption)
                results.append(result)
            self.keep(new)
            yield results

    def keep(self, new: list[Looked]) -> None:
        """Write captions, all or none. new: images with results."""
        rows = [
            (self.model, looked.content, as_json(looked.result))
            for looked in new
            if isinstance(looked.result, Caption) and looked.is_unchanged()
        ]
        with self.lock:
            try:
                if rows and self.writes:
                    with self.connection:
                        self.connection.execute("BEGIN IMMEDIATE")
                        self.connection.executemany(INSERT, rows)
            except sqlite3.Error as error:
                self.writes = False
                self.fail(f"{error}; no more captions are kept there")
            for looked in new:
                self.in_work.pop(looked.content or b"", None)

    def fail(self, reason: str) -> None:
        """Report trouble with the file."""
        self.failed = True
        self.tell(f"{self.path}: {reason}")

    def close(self) -> None:
        with self.lock:
            self.reads = self.writes = False
            self.connection.close()


def check_cache(path: str) -> None:
    """Raise the OutputError that `CaptionCache` would, without making a file."""
    if not os.path.isfile(path):
        check_output(path, overwrite=True)
    if os.path.exists(path):
        connect(path).close()


def connect(path: str | None) -> sqlite3.Connection:
    """Return an open cache or an empty database. Raises OutputError for anything else. path: None for one in memory."""
    if path is None:
        return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(path, "cannot be used as a cache: not a regular file")
    connection = None
    try:
        # An absolute path, so that SQLite takes no name, such as `:memory:`, for anything but a file.
        connection = sqlite3.connect(os.path.abspath(path), TIMEOUT, isolation_level=None, check_same_thread=False)
        if not is_empty(connection):
            application, version = number(connection, "application_id"), number(connection, "user_version")
            if application != APPLICATION:
                raise sqlite3.DatabaseError("a database of another program")
            if version != VERSION:
                raise sqlite3.DatabaseError(f"version {version}, and this capcli knows version {VERSION}")
            connection.execute(SELECT, (b"", b"")).fetchall()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise OutputError(path, f"cannot be used as a cache: {error}") from None
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make an empty database a cache. Raises sqlite3.Error."""
    if is_empty(connection):
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute(TABLE)


def is_empty(connection: sqlite3.Connection) -> bool:
    """Return whether a database was never written to. Raises sqlite3.Error for other files."""
    connection.execute("SELECT count(*) FROM sqlite_master")
    return not number(connection, "page_count")  # without tables it may still be another program's


def number(connection: sqlite3.Connection, name: str) -> int:
    """Return a number from a database's header. Raises sqlite3.Error. name: of the pragma."""
    ((value,),) = connection.execute(f"PRAGMA {name}")
    return int(value)


def renamed(result: Caption | ImageError, path: str) -> Caption | ImageError:
    """Return a result for another image with the same content."""
    if isinstance(result, ImageError):
        return ImageError(path, result.reason, result.kind)
    return replace(result, path=path)


def as_json(caption: Caption) -> str:
    """Return a caption as JSON, without path and attention."""
    candidates = [{name: getattr(candidate, name) for name in FIELDS} for candidate in caption.candidates]
    return json.dumps(
        {
            "candidates": candidates,
            "gain": caption.gain,
            "confidence": caption.confidence,
            "unsure": caption.unsure,
            "kinds": [[kind.name, kind.probability] for kind in caption.kinds],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    )


def from_json(text: str) -> Caption | None:
    """Return the caption in JSON from `as_json`, with an empty path; None if it is damaged or not ours."""
    try:
        values: dict[str, Any] = json.loads(text)
        candidates = [
            Candidate(
                line_in(each["text"]),
                tuple(line_in(word) for word in list_in(each["words"])),
                tuple(number_in(log_prob) for log_prob in list_in(each["word_log_probs"])),
                number_in(each["log_prob"]),
                number_in(each["score"]),
            )
            for each in list_in(values["candidates"])
        ]
        if not candidates or any(len(each.word_log_probs) < len(each.words) for each in candidates):
            return None
        gain, confidence = (
            None if values[name] is None else number_in(values[name]) for name in ("gain", "confidence")
        )
        unsure = {True: True, False: False}[values["unsure"]]
        kinds = tuple(Kind(line_in(name), number_in(probability)) for name, probability in list_in(values["kinds"]))
        return Caption("", tuple(candidates), gain, confidence, unsure, kinds=kinds)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def line_in(value: Any) -> str:
    """Return a printable text. Raises ValueError for others: a line end would forge a row."""
    if not (isinstance(value, str) and value.isprintable()):
        raise ValueError
    return value


def list_in(value: Any) -> list[Any]:
    """Return a list. Raises TypeError otherwise."""
    if not isinstance(value, list):
        raise TypeError
    return value


def number_in(value: Any) -> float:
    """Return a finite number. Raises ValueError, TypeError or OverflowError otherwise."""
    if isinstance(value, (str, bool)) or not math.isfinite(value):
        raise ValueError
    return float(value)
