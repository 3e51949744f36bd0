"""Every caption of a photo: in which place, whose it is, and which one readers show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from capcli.outputs.existing import FIELDS
from capcli.outputs.metadata import read_image
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.record import Record
from capcli.outputs.originals import UntouchableError
from capcli.outputs.ownership import is_signature
from capcli.outputs.sidecars import read_text
from capcli.outputs.xmp_sidecars import XmpFile
from capcli.results import ImageError

TEXTS = (".txt", ".caption")
# Which description is shown if there are several. Most readers take XMP's, as a sidecar's; some, such as immich, prefer
# ImageDescription.
ORDERS = {
    "readers that prefer XMP": ("sidecar", "XMP", "PNG", "EXIF", "IPTC", "UserComment"),
    "readers that prefer EXIF": ("EXIF", "sidecar", "XMP", "PNG", "IPTC", "UserComment"),
}


class Told(NamedTuple):
    """Hold a text of a photo.

    place: the file beside the photo, or the place in its metadata.
    field: which of existing.FIELDS, or `text` of a text file.
    whose: the signature of capcli's text, with a person's words in it; otherwise in words.
    order: the place as ORDERS calls it.
    """

    place: str
    field: str
    text: str
    whose: str
    order: str


def texts_of(photo: str) -> list[Told]:
    """Return the texts of a photo, and of the files beside it. Raises ImageError."""
    stem = os.path.splitext(photo)[0]
    told = list(told_by(read_image(photo), ""))
    for beside in (f"{photo}.xmp", f"{stem}.xmp"):
        if os.path.isfile(beside):
            try:
                told += told_by(XmpFile(Path(beside).read_bytes()), beside)
            except (MetadataError, OSError) as error:
                raise ImageError(photo, f"{beside}: {error}") from None
    for beside in (stem + ending for ending in TEXTS):
        try:
            if os.path.isfile(beside) and (text := read_text(Path(beside))[0]):
                told.append(Told(beside, "text", text, "not known", "text"))
        except (UntouchableError, OSError) as error:
            raise ImageError(photo, f"{beside}: {error}") from None
    return told


def told_by(file: Container, beside: str) -> Iterator[Told]:
    """Yield the texts in a file. beside: its path; empty for the photo itself. Raises MetadataError."""
    record = Record.of(file)
    by = next((found.text for found in file.found if found.field == "writer" and is_signature(found.text)), "capcli")
    for found in file.found:
        if found.field not in FIELDS or not found.text.strip():
            continue
        entry = record.entry(found.place, found.field, found.text)
        whose = "not capcli's"
        if found.text in record.keywords.get(found.place, ()) if found.field == "keywords" else entry:
            kept = entry.original(found.text) if entry else ""
            whose = f"{by}, around: {kept}" if kept else by
        elif found.field == "description" and not file.description(found):
            whose = "a camera or program"
        yield Told(beside or found.place, found.field, found.text, whose, "sidecar" if beside else found.place)


def shown_by_readers(told: list[Told]) -> dict[str, Told]:
    """Return the description that each of ORDERS shows; those that show none are left out."""
    shown = {}
    for readers, order in ORDERS.items():
        places = {each.order: each for each in reversed(told) if each.field == "description"}
        if first := next((places[place] for place in order if place in places), None):
            shown[readers] = first
    return shown
