"""What the files of a photo say of it already: its sidecars and its metadata."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from capcli.files import OutputError
from capcli.outputs.metadata import Metadata, read_caption
from capcli.outputs.originals import UntouchableError
from capcli.outputs.sidecars import Sidecars, read_text
from capcli.outputs.sink import Sink
from capcli.outputs.xmp_sidecars import XmpSidecars
from capcli.results import ImageError


def text_in(sink: Sink, image: str) -> str:
    """Return the text that an image has where a sink would write, on one line; empty if there is none to be read."""
    try:
        if isinstance(sink, Sidecars):
            text = read_text(Path(sink.sidecar(image)))[0]
        elif isinstance(sink, XmpSidecars):
            text = sink.shown(image).description
        else:
            text = read_caption(image) if isinstance(sink, Metadata) else ""
    except (ImageError, OutputError, UntouchableError, OSError):
        return ""
    return " ".join(text.encode(errors="replace").decode().split())


def is_inside(sink: Sink, image: str) -> bool:
    """Return whether the text that `text_in` has just returned is in the image itself."""
    return isinstance(sink, Metadata) or (isinstance(sink, XmpSidecars) and sink.captioned_inside == image)


def first_text(sinks: Iterable[Sink], image: str, may_read: Callable[[str], bool]) -> tuple[str, str] | None:
    """Return the first text that an image has, and the name of its place, or None.

    sinks: the places, in the order in which they are looked at.
    may_read: whether a file, by its real path, may be shown.
    """
    for sink in sinks:
        place = sink.target(image)
        if place is not None and may_read(os.path.realpath(place)) and (text := text_in(sink, image)):
            return text, sink.where(image) if is_inside(sink, image) else os.path.basename(place)
    return None
