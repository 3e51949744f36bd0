"""What captions are written as, and what becomes of an existing text when one is written in its place."""

from __future__ import annotations

import re

FIELDS = ("description", "alt", "keywords")  # of metadata and XMP sidecars
EXISTING = ("skip", "overwrite", "append", "prepend", "fail")
KEPT = ("skip", "fail")  # those that leave a text as it is
SEPARATOR = ", "
HOLE = "\0"  # stands in a caption where its template has {existing}; neither names nor arguments can hold it
SENTENCE = re.compile(r"""[.!?…]["'”’»)]*$""")  # the end of one
EDGES = " \n\t,;|"  # what would be left at the ends of a text whose field is empty


def combine(old: str, new: str, existing: str, separator: str | None = None) -> str:
    """Return the text to write.

    Adding a caption a second time changes nothing, so that an interrupted run can be repeated.

    old: the text that is there, empty if there is none.
    new: the caption.
    existing: one of EXISTING.
    separator: joins the two; None is SEPARATOR, but where the old text ends as a sentence does and the caption is one
        line, the caption becomes a sentence too, and a space joins them.
    """
    if HOLE in new:
        return put_in(old, new)
    if not old or existing == "overwrite":
        return new
    joins = [(SEPARATOR if separator is None else separator, new)]
    if separator is None and "\n" not in new:
        joins.append((" ", as_sentence(new)))
    # It may have been added when the old text was no sentence yet, and have made it one.
    if any(old == text for _, text in joins):
        return old
    between, text = joins[-1 if SENTENCE.search(old) else 0]
    if existing == "append":
        return old if any(old.endswith(between + text) for between, text in joins) else old + between + text
    if existing == "prepend":
        return old if any(old.startswith(text + between) for between, text in joins) else text + between + old
    return old


def as_sentence(text: str) -> str:
    """Return a text with a capital letter at its beginning, and a full stop at its end if it has none, nor the like."""
    return text[:1].upper() + text[1:] + ("" if SENTENCE.search(text) else ".")


def put_in(old: str, new: str) -> str:
    """Return a caption with the text that is there in its place, or that text if it is what a caption was put around.

    old: the text, which may be empty.
    new: the caption, with one HOLE or several.
    """
    if not old:
        return new.replace(HOLE, "").strip(EDGES)
    pieces = new.split(HOLE)
    around = len(old) > len(pieces[0]) + len(pieces[-1])
    return old if around and old.startswith(pieces[0]) and old.endswith(pieces[-1]) else new.replace(HOLE, old)
