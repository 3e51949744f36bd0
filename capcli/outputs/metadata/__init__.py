"""Captions inside image files: EXIF ImageDescription, XMP dc:description, PNG Description, IPTC Caption-Abstract.

With them alt texts (XMP) and keywords (XMP, IPTC). Only the blocks that hold them are rewritten; the compressed pixels
and all other blocks are copied byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.images.decode import STANDARD_INPUT
from capcli.outputs.existing import KEPT
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.fields import Filling
from capcli.outputs.metadata.parsing import parse
from capcli.outputs.originals import UntouchableError, original
from capcli.outputs.rows import is_rejected
from capcli.outputs.sink import CaptionedAlready, Sink, failed_write
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption


class Metadata(Sink):
    """Write captions into the images themselves."""

    marks_unsure = False

    def __init__(
        self,
        existing: str = "skip",
        template: Template = CAPTION_ALONE,
        min_score: float | None = None,
        folders: Iterable[str] = (),
        fields: tuple[str, ...] = ("description",),
        separator: str | None = None,
    ) -> None:
        """Set what is written, and where.

        existing: one of EXISTING: what to do with an image that has a caption already.
        template: makes the text from a caption.
        min_score: captions with a lower score are not written; None writes all.
        folders: links that lead into these are followed, since the user named them.
        fields: those of FIELDS that are written.
        separator: joins a caption to the text that is there, as `combine` takes it.
        """
        self.existing, self.template, self.min_score = existing, template, min_score
        self.folders = tuple(folders)
        self.filling = Filling(fields, existing, separator)
        self.remembers = existing in KEPT

    def target(self, image: str) -> Path | None:
        """Return the image itself."""
        return None if image == STANDARD_INPUT else Path(image)

    def where(self, image: str) -> str:
        """Return what messages call the inside of an image."""
        return "its metadata"

    def has(self, image: str) -> bool:
        """Return whether the image holds a caption in every field. Raises ImageError."""
        return self.filling.has_all(read_image(image).shown)

    def wants(self, image: str) -> bool:
        """Return whether the image has no caption yet in one of the fields, or has one that is to be changed.

        Raises CaptionedAlready if it has one and existing is `fail`, and ImageError for a file that cannot take a
        caption, or must not be written to.
        """
        if image == STANDARD_INPUT:
            raise ImageError(image, "an image from stdin cannot be given metadata")
        content = read_image(image)
        if self.existing == "fail" and self.filling.collides(content.shown):
            raise CaptionedAlready(image, "it already holds a caption")
        if self.existing in KEPT and self.filling.has_all(content.shown):
            return False
        if content.refusal:
            raise ImageError(image, content.refusal)
        try:
            original(image, self.folders)
        except (UntouchableError, OSError) as error:
            raise failed_write(image, image, error) from None
        return True

    def write(self, result: Caption | ImageError) -> None:
        """Write a caption into its image; the original stays in place until the new file is complete.

        Raises ImageError, and OutputError if no other file could be written either.
        """
        if isinstance(result, ImageError) or is_rejected(result, self.min_score):
            return
        path = result.path
        try:
            target = original(path, self.folders)  # a link stays a link
            text = " ".join(self.template.fill(path, result, keywords=result.keywords).split())
            # Locked from reading to writing, so that what another run writes in between is not lost.
            with WholeFile(target, like=target, keep_times=True, timeout=REPLACE_TIMEOUT) as file:
                image = parse(target.read_bytes(), path)
                content = self.filling.filled(image, text, result.keywords or ())
                if content == image.content:
                    return
                file.write_bytes(content)
            self.replaced += self.filling.replaced(image, text)
        except MetadataError as error:
            raise ImageError(path, str(error)) from None
        except (UntouchableError, OSError) as error:
            raise failed_write(path, path, error) from None


def read_caption(path: str) -> str:
    """Return the caption inside an image file, empty if there is none. Raises ImageError."""
    return read_image(path).caption


def read_image(path: str) -> Container:
    """Return an image file, parsed. Raises ImageError if it or its metadata cannot be read."""
    try:
        if not os.path.isfile(path):
            os.stat(path)
            raise MetadataError("not a regular file")
        image = parse(Path(path).read_bytes(), path)
        _ = image.found, image.maker  # reads the blocks now, which may be damaged too
        return image
    except MetadataError as error:
        raise ImageError(path, str(error)) from None
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from None
