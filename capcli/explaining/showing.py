"""What pages show of a person's sentence."""

from __future__ import annotations

from typing import Any

from capcli.explaining.printing import as_cells, as_kinds, factor, note_on, notes_on
from capcli.explaining.reading import Explanation
from capcli.maps.shown import sentence


def shown_explanation(explained: Explanation) -> dict[str, Any]:
    """Return what a page shows of a sentence: as of a caption's, with what the photo says to each word.

    `note` is a line about all of it.
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
    return shown | {"note": "; ".join(notes)}


def with_table(explained: Explanation) -> dict[str, Any]:
    """Return what a page shows of a sentence, and its table: `cells` as in `printing.as_cells`."""
    return shown_explanation(explained) | {"cells": list(as_cells(explained))}
