"""The protocol of everything that takes results: rows, sidecars, metadata, page, overlays and terminal."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import OutputError
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.outputs.originals import UntouchableError
    from capcli.results import Caption

# After these no other file can be written either.
FATAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class CaptionedAlready(ImageError):
    """Report an image that has a caption, which `--existing fail` forbids."""


class Sink:
    """Take a run's results: asked once whether it wants an image, then given its result once.

    path: file or folder to blame for an OSError that names none; None for the image.
    remembers: whether `wants` tells a later run that an image is done.
    replaced: how many texts a different caption has replaced.
    photo_side: longest side of the drawn photo, in pixels; 0 if none is drawn.
    marks_unsure: whether unsure captions show as such.
    """

    path: str | os.PathLike[str] | None = None
    remembers = False
    replaced = 0
    photo_side = 0
    marks_unsure = True

    def wants(self, image: str) -> bool | None:
        """Return whether an image needs captioning here; None takes it only if another sink wants it.

        image: its path, or `-` for stdin.

        Raises CaptionedAlready for one that must not have a caption but has, ImageError for one that cannot take a
        caption here.
        """
        return None

    def has(self, image: str) -> bool:
        """Return whether the image has a caption here. Raises ImageError if that is unknowable."""
        return False

    def target(self, image: str) -> Path | None:
        """Return the file for the image's caption; None if the image has no file of its own here."""
        return None

    def where(self, image: str) -> str:
        """Return where the image's caption goes, in words for messages; programs use `target`."""
        return os.fspath(self.path or "")

    def changes(self, result: Caption) -> Iterable[tuple[str, str, str]]:
        """Return what writing a caption would change in the image's own files: the place, the old text and the new one.

        Raises ImageError as `write` does.
        """
        return ()

    def write(self, result: Caption | ImageError) -> None:
        """Take a caption, or a failure, which most sinks ignore.

        Raises ImageError for trouble with this image, OutputError if no other can be written either.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Make output visible to other programs. Raises OutputError."""

    def close(self) -> None:
        """Complete and release the output; a second call does nothing. Raises OutputError."""


def failed_write(image: str, path: str, error: OSError | UntouchableError) -> ImageError | OutputError:
    """Return an OutputError if a failed write to a path ends the run, else an ImageError."""
    if isinstance(error, OSError) and error.errno in FATAL_ERRORS:
        return OutputError(path, error)
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return ImageError(image, reason if path == image else f"{path}: {reason}", reason)
