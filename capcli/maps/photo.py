"""The photo below the heat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from capcli.images.decode import open_upright

if TYPE_CHECKING:
    from capcli.results import Caption


def photo_of(caption: Caption, longest_side: int) -> Image.Image:
    """Return a caption's photo upright, as it was kept, or opened anew where none was.

    longest_side: no side of it is longer than this, in pixels.

    Raises ImageError if it has to be opened and can't be any more.
    """
    if caption.photo is None:
        return open_upright(caption.path, longest_side)
    photo = caption.photo.copy()
    photo.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    return photo
