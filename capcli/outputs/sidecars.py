"""Captions in a text file beside each image, as training sets want them."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from capcli.files import MOMENT, OutputError, WholeFile
from capcli.images.decode import STANDARD_INPUT
from capcli.outputs.formats import Template, is_rejected
from capcli.outputs.originals import UntouchableError, folders_of, original
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption

EXISTING = ("skip", "overwrite", "append", "prepend", "fail")
REMEMBERING = ("skip", "fail")
SEPARATOR = ", "
# After these no other file can be written either.
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


class CaptionedAlready(ImageError):
    """An image that has a caption where there was to be none."""


class Place(Protocol):
    """Where an image's caption is kept, outside the output.

    remembers: whether `wants` is true no more once a caption was put. replaced: texts that were there and gave way to a
    caption that says something else.
    """

    remembers: bool
    replaced: int

    def where(self, path: str) -> str:
        """What the place is called in messages about an image."""

    def has(self, path: str) -> bool:
        """Whether there is a caption for the image. Raises ImageError if that cannot be known."""

    def wants(self, path: str) -> bool:
        """Whether the image is to be captioned for this place's sake. Raises ImageError if that cannot be."""

    def put(self, caption: Caption) -> None:
        """Keep the caption. Raises ImageError for trouble with this image, OutputError for trouble with all."""


class Sidecars:
    """`photo.txt` beside `photo.jpg`, or in the same place of another tree."""

    def __init__(
        self,
        existing: str = "skip",
        template: Template | None = None,
        num: int = 1,
        min_score: float | None = None,
        tree: str | None = None,
        root: str = "",
        folders: Iterable[str] = (),
    ) -> None:
        """existing: one of EXISTING, what to do about captions already there. num: candidates, a line each. min_score:
        captions that score less are not written. tree: folder to write into, at the image's path below root. folders:
        those that the user named, in which links are followed."""
        self.existing, self.template, self.num, self.min_score = existing, template or Template(), num, min_score
        self.tree, self.root = tree, root
        self.remembers = existing in REMEMBERING
        self.folders = (*folders, *([tree] if tree else []))
        self.images: dict[str, str] = {}  # sidecar, whatever it is called → image, or whose it is otherwise
        self.replaced = 0

    def sidecar(self, image: str) -> str:
        """The sidecar's path."""
        if self.tree is None:
            return os.path.splitext(image)[0] + ".txt"
        below = os.path.relpath(os.path.abspath(image), self.root)
        if below.split(os.sep)[0] == os.pardir:  # not under root: keep the whole path, as `cp --parents` does
            below = os.path.splitdrive(os.path.abspath(image))[1].lstrip("/\\")
        return os.path.join(self.tree, os.path.splitext(below)[0] + ".txt")

    def keep_off(self, path: str, owner: str) -> None:
        """Let no image have this file for its sidecar."""
        self.images[one_name(path)] = owner

    def where(self, path: str) -> str:
        """The sidecar's path."""
        return self.sidecar(path)

    def has(self, path: str) -> bool:
        """Whether the image has a sidecar with anything in it."""
        return has_content(self.sidecar(path))

    def wants(self, path: str) -> bool:
        """Whether the image has no caption yet, or it is to be changed. Raises CaptionedAlready where there is one
        and existing is `fail`, and ImageError where another image has the same sidecar, or it is not to be written."""
        if path == STANDARD_INPUT:
            raise ImageError(path, "standard input has no place for a sidecar")
        sidecar = self.sidecar(path)
        other = self.images.setdefault(one_name(sidecar), path)
        if other != path and one_name(other) != one_name(path):
            raise ImageError(path, f"its sidecar {sidecar} is that of {other} too", "its sidecar is not its alone")
        if sidecar == path:
            raise ImageError(path, "is a sidecar's name itself")
        if self.remembers and self.has(path):
            if self.existing == "fail":
                raise CaptionedAlready(path, f"{sidecar} exists", "its sidecar exists")
            return False
        try:
            original(sidecar, self.folders)
        except (UntouchableError, OSError) as error:
            raise trouble(path, sidecar, error) from None
        return True

    def put(self, caption: Caption) -> None:
        """Write the sidecar, whole or not at all. Raises ImageError, OutputError."""
        if is_rejected(caption, self.min_score):
            return
        sidecar = self.sidecar(caption.path)
        texts = [self.template.fill(caption.path, c) for c in caption.candidates if not is_rejected(c, self.min_score)]
        new = "\n".join(texts)
        try:
            if self.tree is not None:  # beside the image it is there, or was taken away
                os.makedirs(os.path.dirname(sidecar), exist_ok=True)
            target = original(sidecar, self.folders)
            like = target if target.exists() else None
            # Ours from reading to writing. No waiting for the disk: after a power cut the caption can be made again,
            # the photo is untouched.
            with WholeFile(target, durable=False, like=like, patience=MOMENT) as file:
                old = read_text(sidecar)
                text = merge(old, new, self.existing)
                if text == old:
                    return
                file.write(text + "\n")
            self.replaced += bool(old) and self.existing == "overwrite"
        except (UntouchableError, OSError) as error:
            raise trouble(caption.path, sidecar, error) from None


def merge(old: str, new: str, existing: str) -> str:
    """The text for a place that holds `old` (empty for none). Adding what has been added before changes nothing, so
    that an interrupted run can be repeated."""
    if not old or existing == "overwrite":
        return new
    if existing == "append":
        return old if old == new or old.endswith(SEPARATOR + new) else old + SEPARATOR + new
    if existing == "prepend":
        return old if old == new or old.startswith(new + SEPARATOR) else new + SEPARATOR + old
    return old


def trouble(image: str, path: str, error: OSError | UntouchableError) -> ImageError | OutputError:
    """What a failed write means: the end of the run, or of this image only."""
    if isinstance(error, OSError) and error.errno in HOPELESS:
        return OutputError(path, error)
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return ImageError(image, reason if path == image else f"{path}: {reason}", reason)


def one_name(path: str) -> str:
    """The same name for all the ways to write where a file is."""
    return os.path.normcase(os.path.realpath(path))


def has_content(path: str) -> bool:
    """Whether there is a file with anything in it."""
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def read_text(path: str) -> str:
    """A text file without the line end at its end; empty if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_bytes().decode("utf-8", "surrogateescape").rstrip("\r\n")
    return ""


def common_root(arguments: list[str]) -> str:
    """The folder that a mirrored tree begins at: the deepest one that holds all that the arguments stand for."""
    folders = folders_of(arguments)
    try:
        return os.path.commonpath(folders) if folders else os.getcwd()
    except ValueError:  # on different drives
        return os.getcwd()
