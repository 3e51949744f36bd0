"""File names in a folder of overlays, by which capcli recognises its own pictures."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

RECORD, SHEET, ANIMATION = "attention.json", "attention.png", "attention.gif"
RECORD_START = b'{"path": '


def read_record(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return a folder's attention.json, decoded; None unless it is readable and capcli's."""
    path = os.path.join(folder, RECORD)
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for ever
            return None
        with open(path, "rb") as file:
            if file.read(len(RECORD_START)) != RECORD_START:
                return None
            record = json.loads(RECORD_START + file.read())
    except (OSError, ValueError, RecursionError):
        return None
    words = record.get("words")
    ours = (
        record.keys() >= {"path", "caption", "grid", "words"}
        and isinstance(record["path"], str)
        and isinstance(words, list)
        and all(isinstance(word, dict) and isinstance(word.get("word"), str) and "weights" in word for word in words)
    )
    return record if ours else None


def drawn_pictures(folder: str | os.PathLike[str]) -> frozenset[str]:
    """Return the names of capcli's own pictures in a folder, by its attention.json; empty without one."""
    record = read_record(folder)
    if record is None:
        return frozenset()
    return frozenset([*picture_names(word["word"] for word in record["words"]), SHEET, ANIMATION])


def picture_names(words: Iterable[str]) -> list[str]:
    """Return each word's picture name: `00_word.png` and so on."""
    return [f"{index:02}_{safe_name(word)}.png" for index, word in enumerate(words)]


def safe_name(text: str) -> str:
    """Return text as a file name valid on every system.

    It has only letters, digits, `.`, `-` and `_`, at least one, and at most 80 bytes in UTF-8, or 81 with the
    underscore before a name that Windows reserves.
    """
    text = unicodedata.normalize("NFC", text)
    name = "".join(c if c.isalnum() or c in ".-_" else "_" for c in text).lstrip(".-").rstrip(".")
    name = name.encode()[:80].decode(errors="ignore") or "_"
    reserved = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)  # device names on Windows
    return f"_{name}" if reserved else name
