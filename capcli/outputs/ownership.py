"""Whose words a text is: what capcli remembers of one that it wrote, so that it is replaced or taken back as asked.

A text that has changed since is a person's.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from capcli.outputs.existing import combine

SIGNATURE = "capcli "  # how all signatures begin
LONGEST = 32  # bytes of a signature: those of IPTC's Writer/Editor


class Entry(NamedTuple):
    """Remember a text that capcli wrote.

    digest: of the whole text.
    start, end: where the earlier text is in it, in characters; both 0 if there was none, -1 if it was overwritten.
    before: the earlier text, if no person wrote it.
    """

    digest: str
    start: int = 0
    end: int = 0
    before: str = ""

    @classmethod
    def of(cls, old: str, new: str, earlier: Entry | None, persons: str) -> Entry:
        """Return the entry of a new text.

        old: the text in whose place it comes.
        earlier: the entry of the old text; None if that is none of capcli's.
        persons: the old text if a person wrote it, "" if a camera or a program did.
        """
        before = earlier.before if earlier else "" if persons else old
        kept = earlier.original(old) if earlier else persons
        if kept is None or (kept and kept not in new):
            return cls(digest_of(new), -1, -1)
        start = new.find(kept)
        return cls(digest_of(new), start, start + len(kept), before)

    @classmethod
    def read(cls, value: Any) -> Entry:
        """Return an entry from a file. Raises ValueError or TypeError for what is none."""
        digest, start, end, before = (
            (*value, *cls._field_defaults.values())[:4] if len(value) == 1 else (*value, "")[:4]
        )
        if not (isinstance(digest, str) and isinstance(before, str) and type(start) is type(end) is int):
            raise ValueError
        if not (0 <= start <= end or start == end == -1):
            raise ValueError
        return cls(digest, start, end, before)

    @property
    def shortened(self) -> list[Any]:
        """Return the entry as `read` takes it."""
        return [*self] if self.before else [*self[:3]] if self.end else [self.digest]

    @property
    def is_lost(self) -> bool:
        """Return whether the earlier text was overwritten."""
        return self.start < 0

    def original(self, text: str) -> str | None:
        """Return the earlier text of a person; None if it was overwritten. text: the one of this entry."""
        return None if self.is_lost else text[self.start : self.end]

    def renewed(self, text: str, new: str, separator: str | None) -> str:
        """Return a text with another caption in the place of the last one, around what a person wrote.

        text: the one of this entry.
        new: the caption.
        separator: as in `combine`.
        """
        kept = self.original(text)
        if not kept:
            return new
        if self.start and self.end < len(text):  # a template's wording, which cannot be told from the caption
            return text
        return combine(kept, new, "prepend" if self.start else "append", separator)


def digest_of(value: str | bytes) -> str:
    """Return what tells a text or a file from all others: the first 16 hexadecimal digits of its SHA-256."""
    content = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return hashlib.sha256(content).hexdigest()[:16]


def is_signature(text: str) -> bool:
    """Return whether a text is how capcli signs."""
    return text.startswith(SIGNATURE)


def signature(name: str, version: str) -> str:
    """Return how capcli signs what a checkpoint says. name: of the checkpoint; the end of a long one is kept.

    version: 8 letters or digits.
    """
    room = LONGEST - len(SIGNATURE) - len(version) - 1
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "_" for letter in name)
    return f"{SIGNATURE}{plain[-room:]} {version}"
