"""Captions in an XMP file beside each image of any format, for photo managers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.outputs.existing import KEPT, KEPT_OF_OTHERS
from capcli.outputs.metadata import read_image, xmp
from capcli.outputs.metadata.container import BlockKind, Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.fields import Filling, changed
from capcli.outputs.metadata.texts import NOTHING, ShownTexts
from capcli.outputs.originals import UntouchableError, original
from capcli.outputs.sidecars import Beside
from capcli.outputs.sink import CaptionedAlready, failed_write
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption


class XmpFile(Container):
    """Hold an XMP file, as one block; an empty file gets its first packet."""

    added = (xmp,)

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        if content:
            self.blocks[0] = xmp, content

    def assembled(self, changed: dict[int, bytes], added: dict[BlockKind, bytes]) -> bytes:
        return changed[0] if changed else added[xmp] + b"\n"


class XmpSidecars(Beside):
    """Write `photo.jpg.xmp` or `photo.xmp` beside `photo.jpg`, keeping its other content.

    Programs prefer a sidecar's description to the image's own. So an image's own texts count as the sidecar's: no
    caption hides them unasked.
    """

    def __init__(
        self,
        existing: str = "skip",
        template: Template = CAPTION_ALONE,
        folders: Iterable[str] = (),
        adobe: bool = False,
        fields: tuple[str, ...] = ("description",),
        separator: str | None = None,
    ) -> None:
        """Set what to write, and where.

        existing: one of EXISTING, for images with a caption.
        template, folders: as in `Sidecars`.
        adobe: whether a sidecar's name drops the image's ending.
        fields: to write, of FIELDS.
        separator: joins a caption to existing text, as in `combine`.
        """
        super().__init__()
        self.existing, self.template, self.adobe = existing, template, adobe
        self.folders = tuple(folders)
        self.filling = Filling(fields, existing, separator)
        self.remembers = existing in KEPT
        self.captioned_inside = ""  # the image last asked about, if its own texts complete its sidecar

    def sidecar(self, image: str) -> str:
        return (os.path.splitext(image)[0] if self.adobe else image) + ".xmp"

    def where(self, image: str) -> str:
        """Return the sidecar's path, or words for the inside of an image captioned there."""
        return "its metadata" if image == self.captioned_inside else self.sidecar(image)

    def shown(self, image: str) -> ShownTexts:
        """Return what programs show of an image with its sidecar. Raises ImageError if that cannot be read."""
        beside = self.filling.seen(self.read(image))
        if self.filling.has_all(beside):
            self.captioned_inside = ""
            return beside
        shown = beside.over(self.inside(image))
        self.captioned_inside = image if self.filling.has_all(shown) else ""
        return shown

    def inside(self, image: str) -> ShownTexts:
        """Return the image's own texts, as far as readable."""
        try:
            return self.filling.seen(read_image(image))
        except (ImageError, MetadataError):
            return NOTHING

    def read(self, image: str) -> XmpFile:
        """Return an image's sidecar, empty if there is none. Raises ImageError if it cannot be read."""
        sidecar = self.sidecar(image)
        try:
            if os.path.exists(sidecar) and not os.path.isfile(sidecar):
                raise MetadataError("not a regular file")
            file = XmpFile(read_bytes(sidecar))
            _ = file.found  # may be damaged
            return file
        except MetadataError as error:
            raise ImageError(image, f"{sidecar}: {error}", str(error)) from None
        except OSError as error:
            raise failed_write(image, sidecar, error) from None

    def has(self, image: str) -> bool:
        """Return whether all fields of the image have a caption. Raises ImageError."""
        return self.filling.has_all(self.shown(image))

    def wants(self, image: str) -> bool:
        """Return whether the image lacks a caption in some field, or has one to change.

        Raises CaptionedAlready for `fail`, and ImageError if another image shares its sidecar, or that cannot be read
        or must not be written.
        """
        sidecar = self.own_sidecar(image)
        shown = self.shown(image)
        if self.existing == "fail" and self.filling.collides(shown):
            raise CaptionedAlready(image, f"{self.where(image)} holds a caption already", "it already holds a caption")
        if self.existing in KEPT_OF_OTHERS and self.filling.has_all(shown):
            return False
        self.check_writable(image, sidecar)
        return True

    def changes(self, result: Caption) -> Iterable[tuple[str, str, str]]:
        """Return what writing a caption would change; see `Sink.changes`. Raises ImageError."""
        old, sidecar = self.read(result.path), self.sidecar(result.path)
        try:
            content = self.filling.filled(
                old, self.template.line(result), result.keywords or (), self.inside(result.path), result.by
            )
        except MetadataError as error:
            raise ImageError(result.path, f"{sidecar}: {error}", str(error)) from None
        return changed(old, content, sidecar)

    def write(self, result: Caption | ImageError) -> None:
        """Write a caption's sidecar, whole or not at all. Raises ImageError and OutputError as `Sink.write` does."""
        if isinstance(result, ImageError):
            return
        path = result.path
        sidecar = self.sidecar(path)
        try:
            text = self.template.line(result)
            target = original(sidecar, self.folders)
            like = target if target.exists() else None
            # Locked from reading to writing. An old sidecar may hold a person's work, which is irreplaceable.
            with WholeFile(target, durable=like is not None, like=like, timeout=REPLACE_TIMEOUT) as file:
                old = XmpFile(read_bytes(sidecar))
                content = self.filling.filled(old, text, result.keywords or (), self.inside(path), result.by)
                if content == old.content:
                    return
                file.write_bytes(content)
            self.replaced += self.filling.replaced(old, text)
        except MetadataError as error:
            raise ImageError(path, f"{sidecar}: {error}", str(error)) from None
        except (UntouchableError, OSError) as error:
            raise failed_write(path, sidecar, error) from None


def read_bytes(path: str) -> bytes:
    """Return a file's content, empty without one. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_bytes()
    return b""
