"""What pages show of photos: pictures, and sentences with their words' heat."""

from __future__ import annotations

import base64
from typing import Any

from capcli.explaining.printing import factor
from capcli.explaining.reading import Explanation
from capcli.maps.page import as_jpeg, sentence
from capcli.results import Caption


def shown_caption(caption: Caption) -> dict[str, Any]:
    """Return what a page shows of a caption. caption: keeps its photo."""
    assert caption.photo is not None
    return {
        "name": caption.path,
        "picture": base64.b64encode(as_jpeg(caption.photo)).decode(),
        "width": caption.photo.width,
        "height": caption.photo.height,
        "unsure": caption.unsure,
        "sentences": [sentence(candidate) for candidate in caption.candidates],
    }


def shown_explanation(explained: Explanation) -> dict[str, Any]:
    """Return what a page shows of a sentence: as of a caption's, with what the photo says to each word.

    `note` is a line about all of it.
    """
    shown = sentence(explained.best)
    notes = [f"{factor(explained.gain)} as likely as over a blank picture"]
    for name, marks in (("doubted", explained.doubted), ("unknown", explained.unknown)):
        words = [word for word, marked in zip(explained.words, marks, strict=False) if marked]
        notes += [f"{name}: {', '.join(words)}"] if words else []
    for index, word in enumerate(shown["words"]):
        word["doubted"] = explained.doubted[index]
        word["description"] += f", {factor(explained.gains[index])} by the photo"
        if explained.unknown[index]:
            word["description"] += ", not in the vocabulary"
        elif explained.doubted[index] and explained.favourites[index] != word["text"]:
            word["description"] += f", rather: {explained.favourites[index].replace('<end>', '(end)')}"
    return shown | {"note": "; ".join(notes)}
