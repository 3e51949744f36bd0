"""A person's sentence on pages."""

from __future__ import annotations

from typing import Any

from capcli.explaining.printing import as_cells, as_kinds, factor, note_on, notes_on
from capcli.explaining.reading import Explanation
from capcli.maps.shown import sentence


def shown_explanation(explained: Explanation) -> dict[str, Any]:
    """Return a page's content for a sentence: a caption's, with the photo's verdict on each word.

    `note` is a line about it all, and `fit` the figure by which sentences can be compared.
    """
    shown = sentence(explained.best)
    notes = [f"{factor(explained.gain)} as likely as over a blank picture", f"fit {explained.fit:+.3f}"]
    notes += notes_on(explained)
    notes += filter(None, [as_kinds(explained.caption.kinds)])
    for index, word in enumerate(shown["words"]):
        word["doubted"] = explained.doubted[index]
        word["description"] += f", {factor(explained.gains[index])} by the photo"
        if note := note_on(explained, index):
            word["description"] += f", {note}"
    return shown | {"note": "; ".join(notes), "fit": explained.fit}


def with_table(explained: Explanation) -> dict[str, Any]:
    """Return a page's content for a sentence, and its table: `cells` from `printing.as_cells`."""
    return shown_explanation(explained) | {"cells": list(as_cells(explained))}
