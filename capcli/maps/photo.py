"""The photo under the heat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from capcli.images.decode import open_upright

if TYPE_CHECKING:
    from capcli.results import Caption


def photo_of(caption: Caption, longest_side: int) -> Image.Image:
    """Return a caption's upright photo: the one it kept, or the file opened again.

    longest_side: in pixels; larger photos are scaled down.

    Raises ImageError if the file must be opened and is no longer readable.
    """
    if caption.photo is None:
        return open_upright(caption.path, longest_side)
    photo = caption.photo.copy()
    photo.thumbnail((longest_side, longest_side), Image.Resampling.BICUBIC)
    return photo
