"""The one protocol of whatever takes results: rows, sidecars, metadata, the page, overlays and the terminal."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from capcli.files import OutputError
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.outputs.originals import UntouchableError
    from capcli.results import Caption

# After these errors no other file can be written either.
FATAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class CaptionedAlready(ImageError):
    """Report an image that has a caption where there was to be none."""


class Sink:
    """Take the results of a run: asked once for each image what it wants, and told once what came of it.

    path: the file or folder that an OSError means if it names none; None for the image itself.
    remembers: whether an image that was written is known as done to the next run, which asks `wants`.
    replaced: texts that gave way to a caption that says something else, so far.
    photo_side: the longest side, in pixels, of the photo that it draws; 0 if it draws none.
    """

    path: str | os.PathLike[str] | None = None
    remembers = False
    replaced = 0
    photo_side = 0

    def wants(self, image: str) -> bool | None:
        """Return whether there is work left for an image, or None to take it only if another sink wants it.

        Raises CaptionedAlready for a caption that is there and was to be none, and ImageError for an image that this
        sink can't serve.
        """
        return None

    def has(self, image: str) -> bool:
        """Return whether there is a caption for the image. Raises ImageError if that can't be known."""
        return False

    def where(self, image: str) -> str:
        """Return what messages call the place where the image's caption goes."""
        return os.fspath(self.path or "")

    def write(self, result: Caption | ImageError) -> None:
        """Take a caption, or a failure, which most sinks have no place for.

        Raises ImageError for what went wrong with this image, and OutputError where no other can be written either.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Let others see what was written. Raises OutputError."""

    def close(self) -> None:
        """Complete what was begun and let go of it; a second call does nothing. Raises OutputError."""


def failed_write(image: str, path: str, error: OSError | UntouchableError) -> ImageError | OutputError:
    """Return what a failed write means: the end of the run, or a failure of this image alone."""
    if isinstance(error, OSError) and error.errno in FATAL_ERRORS:
        return OutputError(path, error)
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return ImageError(image, reason if path == image else f"{path}: {reason}", reason)
