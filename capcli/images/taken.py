"""The time a photo was taken, by its EXIF."""

from __future__ import annotations

import contextlib
from datetime import datetime

from capcli.images.decode import STANDARD_INPUT, open_file, open_image

EXIF_TAG, DATE_TAG = 0x8769, 0x9003  # of the Exif IFD, and of DateTimeOriginal in it (EXIF 2.3)


def taken_at(path: str) -> datetime | None:
    """Return when a photo was taken, in local time; None if unknown or unreadable."""
    if path == STANDARD_INPUT:
        return None
    with contextlib.suppress(Exception):  # a date is no reason to fail; the decoder reports bad files
        with open_file(path) as file, open_image(file, path) as image:
            when = str(image.getexif().get_ifd(EXIF_TAG)[DATE_TAG])
        return datetime.strptime(when[:19], "%Y:%m:%d %H:%M:%S")
    return None
