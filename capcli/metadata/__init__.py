"""Captions inside the image files: EXIF ImageDescription, XMP dc:description, PNG Description.

Only the blocks that hold them are rewritten; the compressed pixels and every other block are copied byte for byte.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import write_whole
from capcli.images import STANDARD_INPUT, ImageError
from capcli.metadata.containers import parse
from capcli.metadata.errors import MetadataError
from capcli.sidecars import merge, trouble
from capcli.writers import Template, is_unsure

if TYPE_CHECKING:
    from capcli.captioner import Caption


class Metadata:
    """Captions inside the images themselves."""

    def __init__(
        self, existing: str = "skip", template: Template | None = None, min_score: float | None = None
    ) -> None:
        """existing: one of sidecars.EXISTING, what to do about captions already there. min_score: captions that score
        less are not written."""
        self.existing, self.template, self.min_score = existing, template or Template(), min_score

    def wants(self, path: str) -> bool:
        """Whether the image has no caption yet, or it is to be changed. Raises ImageError where existing is `fail` and
        there is one, and for files that cannot take a caption."""
        if path == STANDARD_INPUT:
            raise ImageError(path, "standard input has no place for metadata")
        old = read_caption(path)
        if old and self.existing == "fail":
            raise ImageError(path, "it holds a caption already")
        return not (old and self.existing == "skip")

    def put(self, caption: Caption) -> None:
        """Write the caption; the original stays in place until the new file is complete. Raises ImageError, and
        OutputError where no other file can be written either."""
        if is_unsure(caption, self.min_score):
            return
        path = caption.path
        target = Path(os.path.realpath(path))  # a link stays a link
        try:
            image = parse(target.read_bytes(), path)
            old = image.caption
            text = merge(old, " ".join(self.template.fill(path, caption).split()), self.existing)
            if text == old:
                return
            content = image.with_caption(text)
            if parse(content).caption != text:
                raise MetadataError("the caption could not be read back; the file is left as it was")
            if not os.access(target, os.W_OK):
                raise MetadataError("permission denied")
            write_whole(target, content, like=target)
        except MetadataError as error:
            raise ImageError(path, str(error)) from None
        except OSError as error:
            raise trouble(path, str(target), error) from None


def read_caption(path: str) -> str:
    """The caption inside an image file, empty if there is none. Raises ImageError."""
    try:
        if not os.path.isfile(path):
            os.stat(path)
            raise MetadataError("not a regular file")
        return parse(Path(path).read_bytes(), path).caption
    except MetadataError as error:
        raise ImageError(path, str(error)) from None
    except OSError as error:
        raise ImageError(path, (error.strerror or str(error)).lower()) from None
