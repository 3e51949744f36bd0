"""Fields for captions, and what becomes of a text that is already there."""

from __future__ import annotations

import re

FIELDS = ("description", "alt", "keywords")  # of metadata and XMP sidecars
EXISTING = ("skip", "overwrite", "append", "prepend", "own", "fail")
KEPT = ("skip", "fail")  # leave a text as it is
KEPT_OF_OTHERS = (*KEPT, "own")  # leave a text as it is if capcli did not write it
SEPARATOR = ", "
HOLE = "\0"  # for {existing} of a template; no name or argument can hold it
SENTENCE = re.compile(r"""[.!?…]["'”’»)]*$""")  # its end
EDGES = " \n\t,;|"  # trimmed from a text whose field is empty


def combine(old: str, new: str, existing: str, separator: str | None = None) -> str:
    """Return the text to write.

    Adding a caption twice changes nothing, so an interrupted run can be repeated.

    old: the text there, or empty.
    new: the caption.
    existing: one of EXISTING.
    separator: joins the two; None is SEPARATOR, but after a sentence, a one-line caption becomes a sentence too, and a
        space joins them.
    """
    if HOLE in new:
        return put_in(old, new)
    if not old or existing == "overwrite":
        return new
    joins = [(SEPARATOR if separator is None else separator, new)]
    if separator is None and "\n" not in new:
        joins.append((" ", as_sentence(new)))
    # It may have been added before, and made the old text a sentence.
    if any(old == text for _, text in joins):
        return old
    between, text = joins[-1 if SENTENCE.search(old) else 0]
    if existing == "append":
        return old if any(old.endswith(between + text) for between, text in joins) else old + between + text
    if existing == "prepend":
        return old if any(old.startswith(text + between) for between, text in joins) else text + between + old
    return old


def as_sentence(text: str) -> str:
    """Return a text with a capital letter, and a full stop unless it ends like a sentence."""
    return text[:1].upper() + text[1:] + ("" if SENTENCE.search(text) else ".")


def put_in(old: str, new: str) -> str:
    """Return a caption with the old text in its HOLEs, or the old text if a caption already surrounds it.

    old: may be empty.
    new: with one HOLE or more.
    """
    if not old:
        return new.replace(HOLE, "").strip(EDGES)
    pieces = new.split(HOLE)
    around = len(old) > len(pieces[0]) + len(pieces[-1])
    return old if around and old.startswith(pieces[0]) and old.endswith(pieces[-1]) else new.replace(HOLE, old)
