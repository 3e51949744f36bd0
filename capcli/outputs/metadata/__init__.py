"""Captions inside image files: EXIF ImageDescription, XMP dc:description, PNG Description, IPTC Caption-Abstract.

Also alt texts (XMP) and keywords (XMP, IPTC). Only their blocks are rewritten; compressed pixels and other blocks are
copied byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.images.decode import STANDARD_INPUT
from capcli.outputs.existing import KEPT, KEPT_OF_OTHERS
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.fields import Filling, changed
from capcli.outputs.metadata.parsing import parse
from capcli.outputs.originals import UntouchableError, original
from capcli.outputs.sink import CaptionedAlready, Sink, failed_write
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption


class Metadata(Sink):
    """Write captions into the images."""

    marks_unsure = False

    def __init__(
        self,
        existing: str = "skip",
        template: Template = CAPTION_ALONE,
        folders: Iterable[str] = (),
        fields: tuple[str, ...] = ("description",),
        separator: str | None = None,
    ) -> None:
        """Set what to write, and where.

        existing: one of EXISTING, for images with a caption.
        template, folders: as in `Sidecars`.
        fields: to write, of FIELDS.
        separator: joins a caption to existing text, as in `combine`.
        """
        self.existing, self.template = existing, template
        self.folders = tuple(folders)
        self.filling = Filling(fields, existing, separator)
        self.remembers = existing in KEPT

    def target(self, image: str) -> Path | None:
        """Return the image itself; None on stdin."""
        return None if image == STANDARD_INPUT else Path(image)

    def where(self, image: str) -> str:
        return "its metadata"

    def has(self, image: str) -> bool:
        """Return whether all fields of the image have a caption. Raises ImageError."""
        return self.filling.has_all(read_image(image).shown)

    def wants(self, image: str) -> bool:
        """Return whether the image lacks a caption in some field, or has one to change.

        Raises CaptionedAlready for `fail`, and ImageError if it cannot take a caption or must not be written.
        """
        if image == STANDARD_INPUT:
            raise ImageError(image, "an image from stdin cannot be given metadata")
        content = read_image(image)
        if self.existing == "fail" and self.filling.collides(content.shown):
            raise CaptionedAlready(image, "it already holds a caption")
        if self.existing in KEPT_OF_OTHERS and self.filling.has_all(self.filling.seen(content)):
            return False
        if content.refusal:
            raise ImageError(image, content.refusal)
        try:
            original(image, self.folders)
        except (UntouchableError, OSError) as error:
            raise failed_write(image, image, error) from None
        return True

    def changes(self, result: Caption) -> Iterable[tuple[str, str, str]]:
        """Return what writing a caption would change; see `Sink.changes`. Raises ImageError."""
        image = read_image(result.path)
        try:
            content = self.filling.filled(image, self.template.line(result), result.keywords or (), by=result.by)
        except MetadataError as error:
            raise ImageError(result.path, str(error)) from None
        return changed(image, content, "its metadata")

    def write(self, result: Caption | ImageError) -> None:
        """Write a caption into its image, which is replaced once the new file is complete.

        Raises ImageError and OutputError as `Sink.write` does.
        """
        if isinstance(result, ImageError):
            return
        path = result.path
        try:
            target = original(path, self.folders)  # a link stays a link
            text = self.template.line(result)
            # Locked from reading to writing, so that another run's writing is not lost.
            with WholeFile(target, like=target, keep_times=True, timeout=REPLACE_TIMEOUT) as file:
                image = parse(target.read_bytes(), path)
                content = self.filling.filled(image, text, result.keywords or (), by=result.by)
                if content == image.content:
                    return
                file.write_bytes(content)
            self.replaced += self.filling.replaced(image, text)
        except MetadataError as error:
            raise ImageError(path, str(error)) from None
        except (UntouchableError, OSError) as error:
            raise failed_write(path, path, error) from None


def read_caption(path: str) -> str:
    """Return the caption inside an image file, or "". Raises ImageError."""
    return read_image(path).caption


def read_image(path: str) -> Container:
    """Return a parsed image file. Raises ImageError if it or its metadata cannot be read."""
    try:
        if not os.path.isfile(path):
            os.stat(path)
            raise MetadataError("not a regular file")
        image = parse(Path(path).read_bytes(), path)
        _ = image.found, image.maker  # reads the blocks now, as they may be damaged too
        return image
    except MetadataError as error:
        raise ImageError(path, str(error)) from None
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from None
