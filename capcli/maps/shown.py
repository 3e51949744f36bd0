"""Captions on pages of report, server and training: pictures, and sentences with heat."""

from __future__ import annotations

import base64
import io
import math
import re
from typing import TYPE_CHECKING, Any

from capcli.maps.overlay import heatmaps, strongest_place

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from capcli.results import Candidate, Caption

THUMBNAIL, QUALITY = 320, 72  # longest side in pixels, JPEG quality


def shown_caption(caption: Caption) -> dict[str, Any]:
    """Return a page's content for a caption. caption: keeps its photo."""
    assert caption.photo is not None
    return {
        "name": caption.path,
        "picture": base64.b64encode(as_jpeg(caption.photo)).decode(),
        "width": caption.photo.width,
        "height": caption.photo.height,
        "judgement": judgement(caption),
        "unsure": caption.unsure,
        "kinds": ", ".join(map(str, caption.kinds)),
        "sentences": [sentence(candidate) for candidate in caption.candidates],
    }


def judgement(caption: Caption) -> str:
    """Return how likely a caption is right, and whether it is unsure, as `Confidence: 43% (unsure)`; else nothing."""
    if caption.confidence is None:
        return "Unsure: more likely wrong than right." if caption.unsure else ""
    return f"Confidence: {caption.confidence:.0%}{' (unsure)' if caption.unsure else ''}"


def as_jpeg(photo: Image.Image, optimize: bool = False) -> bytes:
    """Return a photo as JPEG.

    photo: in RGB.
    optimize: whether to take longer for fewer bytes.
    """
    content = io.BytesIO()
    photo.save(content, "JPEG", quality=QUALITY, optimize=optimize)
    return content.getvalue()


def as_webp(photo: Image.Image, most: int) -> bytes:
    """Return a photo as WebP, coarser, then smaller, until it takes little enough.

    photo: in RGB.
    most: bytes, 2,000 or more.
    """
    while True:
        for quality in (60, 45, 30):
            content = io.BytesIO()
            photo.save(content, "WEBP", quality=quality, method=2)
            if content.tell() <= most:
                return content.getvalue()
        photo = photo.resize((max(1, photo.width * 3 // 4), max(1, photo.height * 3 // 4)))


def sentence(candidate: Candidate) -> dict[str, Any]:
    """Return a sentence for the card's template; without attention, only text and no words."""
    reworded = spoken(candidate.text) != spoken(" ".join(candidate.words))
    shown: dict[str, Any] = {"text": candidate.text, "reworded": reworded, "score": candidate.score, "words": []}
    if candidate.attention is not None:
        shown |= {"grid": tuple(candidate.attention.shape[1:]), "offset": candidate.cell_offset}
        strengths = heatmaps(candidate, "caption").max((1, 2)).tolist()
        for word, log_prob, heat, strength in zip(
            candidate.words, candidate.word_log_probs, heatmaps(candidate, "word"), strengths, strict=False
        ):
            description = f"{math.exp(log_prob):.0%}, looks at the {where(heat, candidate.cell_offset)}"
            shown["words"].append({"text": word, "heat": pack(heat), "strength": strength, "description": description})
    return shown


def spoken(text: str) -> list[str]:
    """Return a text as heard, without capitals and punctuation."""
    return re.findall(r"[^\W_]+", text.lower())


def pack(heat: np.ndarray) -> str:
    """Return heat, (rows, columns) in 0 … 1, as a byte per cell, row by row, in Base64."""
    return base64.b64encode((heat * 255).round().astype("uint8").tobytes()).decode()


def where(heat: np.ndarray, offset: float) -> str:
    """Return the strongest place in words, such as `top left`. heat, offset: see `strongest_place`."""
    x, y = strongest_place(heat, offset)
    vertical = ("top", "middle", "bottom")[min(2, int(3 * y))]
    horizontal = ("left", "centre", "right")[min(2, int(3 * x))]
    return "centre" if vertical == "middle" and horizontal == "centre" else f"{vertical} {horizontal}"
