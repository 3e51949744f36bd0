"""The one protocol for everything that takes results: rows, sidecars, metadata, page, overlays and terminal."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import OutputError
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.outputs.originals import UntouchableError
    from capcli.results import Caption

# After these errors no other file can be written either.
FATAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class CaptionedAlready(ImageError):
    """Report an image that already has a caption, which `--existing fail` does not allow."""


class Sink:
    """Take the results of a run: it is asked once whether it wants an image, and given its result once.

    path: the file or folder that an OSError is about if it names none; None for the image itself.
    remembers: whether `wants` tells a later run that an image is done.
    replaced: how many texts a different caption has replaced so far.
    photo_side: the longest side, in pixels, of the photo that is drawn; 0 if none is.
    marks_unsure: whether it can be seen here which captions are unsure.
    """

    path: str | os.PathLike[str] | None = None
    remembers = False
    replaced = 0
    photo_side = 0
    marks_unsure = True

    def wants(self, image: str) -> bool | None:
        """Return whether an image still needs captioning here; None takes it only if another sink wants it.

        image: its path, or `-` for stdin.

        Raises CaptionedAlready for an image that must not have a caption and has one, and ImageError for one whose
        caption cannot be put here.
        """
        return None

    def has(self, image: str) -> bool:
        """Return whether the image has a caption here. Raises ImageError if that cannot be found out."""
        return False

    def target(self, image: str) -> Path | None:
        """Return the file that the image's caption goes to; None where the image has no file of its own here."""
        return None

    def where(self, image: str) -> str:
        """Return the place that the image's caption goes to, as messages name it; for programs there is `target`."""
        return os.fspath(self.path or "")

    def write(self, result: Caption | ImageError) -> None:
        """Take a caption, or a failure, which most sinks ignore.

        Raises ImageError if something is wrong with this image, and OutputError if no other could be written either.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Make what was written visible to other programs. Raises OutputError."""

    def close(self) -> None:
        """Complete what was begun, and release it; a second call does nothing. Raises OutputError."""


def failed_write(image: str, path: str, error: OSError | UntouchableError) -> ImageError | OutputError:
    """Return an OutputError if a failed write ends the run, and an ImageError if it concerns this image alone.

    image: its path.
    path: the file that could not be written.
    error: why not.
    """
    if isinstance(error, OSError) and error.errno in FATAL_ERRORS:
        return OutputError(path, error)
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return ImageError(image, reason if path == image else f"{path}: {reason}", reason)
