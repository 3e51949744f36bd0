"""Captions inside image files: EXIF ImageDescription, XMP dc:description, PNG Description, IPTC Caption-Abstract.

Only the blocks that hold a caption are rewritten; the compressed pixels and all other blocks are copied byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.images.decode import STANDARD_INPUT
from capcli.outputs.existing import KEPT, combine
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.parsing import parse
from capcli.outputs.metadata.texts import PROGRAM_DATA, WRITTEN
from capcli.outputs.originals import UntouchableError, original
from capcli.outputs.rows import is_encodable, is_rejected
from capcli.outputs.sink import CaptionedAlready, Sink, failed_write
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption


class Metadata(Sink):
    """Write captions into the images themselves."""

    def __init__(
        self,
        existing: str = "skip",
        template: Template = CAPTION_ALONE,
        min_score: float | None = None,
        folders: Iterable[str] = (),
        touch: bool = False,
    ) -> None:
        """Set what is written, and where.

        existing: one of EXISTING: what to do with an image that has a caption already.
        template: makes the text from a caption.
        min_score: captions with a lower score are not written; None writes all.
        folders: links that lead into these are followed, since the user named them.
        touch: whether an image's modification time becomes that of its caption, instead of staying as it was.
        """
        self.existing, self.template, self.min_score = existing, template, min_score
        self.folders, self.touch = tuple(folders), touch
        self.remembers = existing in KEPT

    def where(self, image: str) -> str:
        """Return what messages call the inside of an image."""
        return "its metadata"

    def has(self, image: str) -> bool:
        """Return whether the image holds a caption. Raises ImageError."""
        return bool(read_caption(image))

    def wants(self, image: str) -> bool:
        """Return whether the image has no caption yet, or has one that is to be changed.

        Raises CaptionedAlready if it has one and existing is `fail`, and ImageError for a file that cannot take a
        caption, or must not be written to.
        """
        if image == STANDARD_INPUT:
            raise ImageError(image, "an image from stdin cannot be given metadata")
        content = read_image(image)
        if content.caption and self.existing == "fail":
            raise CaptionedAlready(image, "it already holds a caption")
        if content.caption and self.existing == "skip":
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
            text = " ".join(self.template.fill(path, result).split())
            # Locked from reading to writing, so that what another run writes in between is not lost.
            with WholeFile(target, like=target, keep_times=not self.touch, timeout=REPLACE_TIMEOUT) as file:
                image = parse(target.read_bytes(), path)
                content = self.captioned(image, text)
                if content == image.content:
                    return
                file.write_bytes(content)
            if self.existing == "overwrite":
                there = {image.words(old) for place, old in image.found if place in WRITTEN}
                self.replaced += len(there - {"", text})
        except MetadataError as error:
            raise ImageError(path, str(error)) from None
        except (UntouchableError, OSError) as error:
            raise failed_write(path, path, error) from None

    def captioned(self, image: Container, text: str) -> bytes:
        """Return an image file with a caption in it.

        image: the file as it is.
        text: the caption.

        Raises MetadataError if it cannot be written safely.
        """
        if not is_encodable(text):
            raise MetadataError("its name is not UTF-8, so the template cannot write it into metadata")
        shown = image.caption
        if shown and self.existing in ("skip", "fail"):
            return image.content

        def change(old: str) -> str:
            """Return a text changed by itself, so that none is lost.

            An empty text takes what was shown before, because it may now be shown first.
            """
            if PROGRAM_DATA.match(old):
                raise MetadataError("its description holds a program's data; left as it is")
            return combine(image.words(old) or shown, text, self.existing)

        content = image.with_caption(change)
        after = parse(content)
        if after.caption != combine(shown, text, self.existing) or any(
            change(old) != old for place, old in after.found if place in WRITTEN
        ):
            raise MetadataError("the caption could not be read back; the file is left as it was")
        return content


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
