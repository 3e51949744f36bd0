"""Cameras' raw files: the preview inside, taken out by LibRaw, from the `raw` extra."""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

from PIL import Image

from capcli.installing import install_line
from capcli.results import ImageError

ENDINGS = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl "
    ".sr2 .srf .srw .x3f".split()
)
ORIENTATION_TAG = 0x0112
ORIENTATIONS = {3: 3, 5: 8, 6: 6}  # LibRaw's numbers for turned pictures → EXIF's


def is_raw(name: str) -> bool:
    """Return whether a file's ending is a camera's: contents look like TIFF, and many others."""
    return os.path.splitext(name)[1].lower() in ENDINGS


def open_preview(file: BinaryIO, name: str) -> Image.Image:
    """Return a raw file's largest preview, not yet decoded if a JPEG.

    A file without one, or that LibRaw cannot read, is opened by Pillow.

    file: at any position.
    name: for messages.

    Raises ImageError without rawpy, and whatever Pillow raises.
    """
    try:
        import rawpy
    except ImportError:
        raise ImageError(name, f"raw files need an extra package: {install_line('raw')}") from None
    file.seek(0)
    try:
        with rawpy.imread(file) as raw:
            preview, flip = raw.extract_thumb(), raw.sizes.flip
            content: Any = preview.data
    except rawpy.LibRawError:
        file.seek(0)
        # Some scanners' TIFF files are called .raw.
        return Image.open(file)
    if preview.format is rawpy.ThumbFormat.JPEG:  # LibRaw adds EXIF with the orientation if there is none
        return Image.open(io.BytesIO(content))
    image = Image.fromarray(content)
    if flip in ORIENTATIONS:
        image.getexif()[ORIENTATION_TAG] = ORIENTATIONS[flip]
    return image
