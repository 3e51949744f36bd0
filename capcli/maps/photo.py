"""The photo under the heat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from capcli.images.decode import open_upright

if TYPE_CHECKING:
    from capcli.results import Caption


def photo_of(caption: Caption, longest_side: int) -> Image.Image:
    """Return the upright photo of a caption: the one that it kept, or if it kept none, the file opened again.

    caption: whose photo it is.
    longest_side: in pixels; a larger photo is scaled down.

    Raises ImageError if the file has to be opened and can no longer be read.
    """
    if caption.photo is None:
        return open_upright(caption.path, longest_side)
    photo = caption.photo.copy()
    photo.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    return photo
