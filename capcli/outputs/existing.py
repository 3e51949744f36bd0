"""What captions are written as, and what becomes of an existing text when one is written in its place."""

from __future__ import annotations

FIELDS = ("description", "alt", "keywords")  # of metadata and XMP sidecars
EXISTING = ("skip", "overwrite", "append", "prepend", "fail")
KEPT = ("skip", "fail")  # those that leave a text as it is
SEPARATOR = ", "


def combine(old: str, new: str, existing: str) -> str:
    """Return the text to write.

    Adding a caption a second time changes nothing, so that an interrupted run can be repeated.

    old: the text that is there, empty if there is none.
    new: the caption.
    existing: one of EXISTING.
    """
    if not old or existing == "overwrite":
        return new
    if existing == "append":
        return old if old == new or old.endswith(SEPARATOR + new) else old + SEPARATOR + new
    if existing == "prepend":
        return old if old == new or old.startswith(new + SEPARATOR) else new + SEPARATOR + old
    return old
