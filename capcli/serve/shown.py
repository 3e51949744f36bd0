"""What pages show of photos: pictures, and sentences with their words' heat."""

from __future__ import annotations

import base64
from typing import Any

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
