"""What becomes of a text that is there already when a caption is to be written in its place."""

from __future__ import annotations

EXISTING = ("skip", "overwrite", "append", "prepend", "fail")
KEPT = ("skip", "fail")  # those that leave a text as it is
SEPARATOR = ", "


def combine(old: str, new: str, existing: str) -> str:
    """Return the text for a place that holds `old` (empty for none).

    Adding what has been added before changes nothing, so that an interrupted run can be repeated.
    """
    if not old or existing == "overwrite":
        return new
    if existing == "append":
        return old if old == new or old.endswith(SEPARATOR + new) else old + SEPARATOR + new
    if existing == "prepend":
        return old if old == new or old.startswith(new + SEPARATOR) else new + SEPARATOR + old
    return old
