"""What capcli remembers of texts that have no place for a signature, in the database that `--cache` names.

These are texts beside photos, and those of rows.
"""

from __future__ import annotations

import json
import os
import sqlite3
from typing import NamedTuple

from capcli.files import OutputError
from capcli.outputs.cache import connect, prepare
from capcli.outputs.ownership import Entry, digest_of
from capcli.outputs.rows import real_place

TABLE = """
    CREATE TABLE IF NOT EXISTS written (
        place BLOB NOT NULL, photo BLOB NOT NULL, digest TEXT NOT NULL, entry TEXT NOT NULL, before TEXT NOT NULL,
        signature TEXT NOT NULL, PRIMARY KEY (place, photo, digest)
    )
"""
INDEX = "CREATE INDEX IF NOT EXISTS written_of_photo ON written (photo)"
INSERT = "INSERT OR REPLACE INTO written VALUES (?, ?, ?, ?, ?, ?)"
DELETE = "DELETE FROM written WHERE place = ? AND place != x''"
FIND = "SELECT entry, before FROM written WHERE place = ? AND digest = ?"
SIGNATURE = "SELECT signature FROM written WHERE photo = ? AND digest = ?"
PLACES = "SELECT DISTINCT place FROM written WHERE photo = ? AND place != x''"


class Noted(NamedTuple):
    """Hold what is remembered of a file. before: digest of it before capcli wrote, of nothing if it was absent."""

    entry: Entry
    before: str


class Written:
    """Remember texts; several processes may use the database at once."""

    def __init__(self, path: str) -> None:
        """Take the path of the database, which is made once there is something to remember."""
        self.path = path
        self.pending: list[tuple[str, tuple[object, ...]]] = []
        self.connection: sqlite3.Connection | None = None
        self.broken = False  # then texts count as a person's, which loses none

    def note(self, place: str, photo: str, noted: Noted, by: str) -> None:
        """Remember the text of a file. photo: that it is about. by: its signature."""
        self.forget(place)
        self.add(place, photo, noted, by)

    def say(self, photo: str, text: str, by: str) -> None:
        """Remember what a checkpoint said of a photo. by: its signature."""
        self.add("", photo, Noted(Entry(digest_of(text)), ""), by)

    def add(self, place: str, photo: str, noted: Noted, by: str) -> None:
        entry = json.dumps(noted.entry.shortened)
        row = (key_of(place), key_of(photo), noted.entry.digest, entry, noted.before, by)
        self.pending.append((INSERT, row))

    def forget(self, place: str) -> None:
        """Forget the text of a file."""
        self.pending.append((DELETE, (key_of(place),)))

    def flush(self) -> None:
        """Write what is to be remembered, unless the database is broken, which the cache itself tells."""
        pending, self.pending = self.pending, []
        if not pending or self.broken:
            return
        try:
            connection = self.connection = self.connection or connect(self.path)
            prepare(connection)
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for statement in (TABLE, INDEX):
                    connection.execute(statement)
                for statement, values in pending:
                    connection.execute(statement, values)
        except (sqlite3.Error, OutputError):
            self.broken = True

    def find(self, place: str, text: str) -> Noted | None:
        """Return what is remembered of a file; None if capcli did not write this text."""
        for entry, before in self.select(FIND, key_of(place), digest_of(text)):
            try:
                return Noted(Entry.read(json.loads(entry)), before)
            except (ValueError, TypeError):
                continue
        return None

    def signature(self, photo: str, text: str) -> str:
        """Return how the checkpoint that said this of a photo signs; empty if none did."""
        return next((str(by) for (by,) in self.select(SIGNATURE, key_of(photo), digest_of(text))), "")

    def places(self, photo: str) -> list[str]:
        """Return the files beside a photo that capcli wrote."""
        return [os.fsdecode(place) for (place,) in self.select(PLACES, key_of(photo))]

    def select(self, statement: str, *values: object) -> list[tuple]:
        if self.broken or (self.connection is None and not os.path.exists(self.path)):
            return []
        try:
            self.connection = self.connection or connect(self.path)
            if not self.connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'written'").fetchall():
                return []
            return self.connection.execute(statement, values).fetchall()
        except (sqlite3.Error, OutputError):
            self.broken = True
            return []


def key_of(path: str) -> bytes:
    """Return what all spellings of a path have in common; nothing for none."""
    return os.fsencode(real_place(path)) if path else b""
