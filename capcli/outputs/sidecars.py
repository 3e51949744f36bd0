"""Captions in a file beside each image: text files for training sets, and the base of all sidecars."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.images.decode import STANDARD_INPUT
from capcli.outputs.existing import HOLE, KEPT, combine
from capcli.outputs.originals import UntouchableError, folders_of, original
from capcli.outputs.ownership import Entry, digest_of
from capcli.outputs.rows import is_encodable
from capcli.outputs.sink import CaptionedAlready, Sink, failed_write
from capcli.outputs.template import CAPTION_ALONE, Template
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.outputs.written import Noted, Written
    from capcli.results import Caption

ENDING = ".txt"
MARKS = {"utf-8": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
NO_TEXT = "not a text file; left as it is"


class Beside(Sink):
    """Write a file beside each image, for this image alone.

    folders: named by the user, so links into them are followed.
    """

    folders: tuple[str, ...] = ()
    marks_unsure = False

    def __init__(self) -> None:
        self.images: dict[str, str] = {}  # sidecar's real path → its image, or other owner

    def sidecar(self, image: str) -> str:
        """Return the path of an image's sidecar, which need not exist."""
        raise NotImplementedError

    def keep_off(self, path: str, owner: str) -> None:
        """Refuse images whose sidecar would be an option's file.

        owner: the option, for the message.
        """
        self.images[one_name(path)] = owner

    def target(self, image: str) -> Path | None:
        """Return the sidecar, which need not exist; None on stdin."""
        return None if image == STANDARD_INPUT else Path(self.sidecar(image))

    def where(self, image: str) -> str:
        return self.sidecar(image)

    def own_sidecar(self, image: str) -> str:
        """Return the path of an image's sidecar. Raises ImageError if other files share it."""
        if image == STANDARD_INPUT:
            raise ImageError(image, "an image from stdin cannot have a sidecar")
        sidecar = self.sidecar(image)
        other = self.images.setdefault(one_name(sidecar), image)
        if other != image and one_name(other) != one_name(image):
            raise ImageError(image, f"it would share its sidecar {sidecar} with {other}", "it would share its sidecar")
        if sidecar == image:
            raise ImageError(image, "it would be its own sidecar")
        return sidecar

    def check_writable(self, image: str, sidecar: str) -> None:
        """Raise ImageError if a sidecar must not be written, OutputError if none can be."""
        try:
            self.check_content(original(sidecar, self.folders))
        except (UntouchableError, OSError) as error:
            raise failed_write(image, sidecar, error) from None

    def check_content(self, sidecar: Path) -> None:
        """Raise UntouchableError if a sidecar's content is not ours to change, and OSError."""


class Sidecars(Beside):
    """Write `photo.txt` beside `photo.jpg`, or in its place in another tree."""

    def __init__(
        self,
        existing: str = "skip",
        template: Template = CAPTION_ALONE,
        num: int = 1,
        tree: str | None = None,
        root: str = "",
        folders: Iterable[str] = (),
        ending: str = ENDING,
        separator: str | None = None,
        written: Written | None = None,
    ) -> None:
        """Set what to write, and where.

        existing: one of EXISTING, for sidecars with text.
        template: words a candidate.
        num: candidates per image, 1 or more.
        tree: folder to write into, at images' paths relative to root; None writes beside images.
        root: absolute path of the folder that the tree mirrors.
        folders: named by the user, so links into them are followed.
        ending: of names, with its dot.
        separator: joins a caption to existing text, and candidates; None is a line end for these, and as in `combine`
            for those.
        written: remembers which texts are capcli's; None treats all as a person's.
        """
        super().__init__()
        self.existing, self.template, self.num = existing, template, num
        self.ending, self.separator, self.written = ending, separator, written
        self.tree, self.root = tree, root
        self.remembers = existing in KEPT
        self.folders = (*folders, *([tree] if tree else []))

    def sidecar(self, image: str) -> str:
        if self.tree is None:
            return os.path.splitext(image)[0] + self.ending
        below = os.path.relpath(os.path.abspath(image), self.root)
        if below.split(os.sep)[0] == os.pardir:  # not under root: keep the whole path, like `cp --parents`
            below = os.path.splitdrive(os.path.abspath(image))[1].lstrip("/\\")
        return os.path.join(self.tree, os.path.splitext(below)[0] + self.ending)

    def has(self, image: str) -> bool:
        """Return whether the image's sidecar has content."""
        return has_content(self.sidecar(image))

    def wants(self, image: str) -> bool:
        """Return whether the image lacks a caption, or has one to change.

        Raises CaptionedAlready for `fail`, and ImageError if another image shares its sidecar, or that must not be
        written.
        """
        sidecar = self.own_sidecar(image)
        if self.remembers and self.has(image):
            if self.existing == "fail":
                raise CaptionedAlready(image, f"{sidecar} exists", "its sidecar exists")
            return False
        self.check_writable(image, sidecar)
        return self.existing != "own" or self.is_ours(Path(sidecar))

    def is_ours(self, sidecar: Path) -> bool:
        """Return whether a sidecar is empty, or has capcli's text. Raises UntouchableError and OSError."""
        old, _ = read_text(sidecar)
        return not old or bool(self.written and self.written.find(str(sidecar), old))

    def check_content(self, sidecar: Path) -> None:
        read_text(sidecar)

    def text(self, result: Caption) -> str:
        """Return the text of a caption. Raises ImageError as `Template.fill` does."""
        between = "\n" if self.separator is None else self.separator
        return between.join(self.template.fill(result.path, c, keywords=result.keywords) for c in result.candidates)

    def changes(self, result: Caption) -> Iterable[tuple[str, str, str]]:
        """Return what writing a caption would change; see `Sink.changes`. Raises ImageError."""
        sidecar = self.sidecar(result.path)
        try:
            old, _ = read_text(Path(sidecar))
        except (UntouchableError, OSError) as error:
            raise failed_write(result.path, sidecar, error) from None
        new, _ = self.combined(Path(sidecar), old, self.text(result))
        return [(sidecar, old, new)] if new != old else []

    def combined(self, sidecar: Path, old: str, new: str) -> tuple[str, Noted | None]:
        """Return the text to write, and what is remembered of the old one."""
        noted = self.written.find(str(sidecar), old) if self.written and old else None
        if self.existing != "own":
            return combine(old, new, self.existing, self.separator), noted
        return (noted.entry.renewed(old, new, self.separator) if noted else old or new), noted

    def flush(self) -> None:
        """Remember what was written."""
        if self.written:
            self.written.flush()

    def write(self, result: Caption | ImageError) -> None:
        """Write a caption's sidecar, whole or not at all. Raises ImageError and OutputError as `Sink.write` does."""
        if isinstance(result, ImageError):
            return
        sidecar, new = self.sidecar(result.path), self.text(result)
        try:
            if self.tree is not None:  # beside the image the folder exists, or was removed
                os.makedirs(os.path.dirname(sidecar), exist_ok=True)
            target = original(sidecar, self.folders)
            like = target if target.exists() else None
            # Locked from reading to writing. No waiting for the disk: after a power cut the caption can be made again,
            # the photo is untouched.
            with WholeFile(target, durable=False, like=like, timeout=REPLACE_TIMEOUT) as file:
                old, mark = read_text(target)
                text, noted = self.combined(target, old, new)
                if text == old:
                    return
                before = noted.before if noted else digest_of(target.read_bytes() if like else b"")
                file.write_bytes(encoded(text + "\n", old, mark if old and old in text else b""))
            self.replaced += bool(old) and self.existing in ("overwrite", "own") and HOLE not in new
            if self.written and result.by:
                entry = Entry.of(old, text, noted.entry if noted else None, old)
                from capcli.outputs.written import Noted  # which loads SQLite

                self.written.note(str(target), result.path, Noted(entry, before), result.by)
            elif self.written:
                self.written.forget(str(target))
        except (UntouchableError, OSError) as error:
            raise failed_write(result.path, sidecar, error) from None


def one_name(path: str) -> str:
    """Return one name for a file with several."""
    return os.path.normcase(os.path.realpath(path))


def has_content(path: str) -> bool:
    """Return whether a file exists and is not empty."""
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def read_text(path: Path) -> tuple[str, bytes]:
    """Return a text file's content without line ends at its end, and its byte order mark; "" without a file.

    Raises UntouchableError if it is not text, and OSError.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return "", b""
    codec, mark = next(((codec, mark) for codec, mark in MARKS.items() if content.startswith(mark)), ("utf-8", b""))
    try:
        text = content[len(mark) :].decode(codec, "surrogateescape" if codec == "utf-8" else "strict")
    except UnicodeDecodeError:
        raise UntouchableError(NO_TEXT) from None
    if "\0" in text:  # an image, say, or UTF-16 without a mark
        raise UntouchableError(NO_TEXT)
    return text.rstrip("\r\n"), mark


def encoded(text: str, old: str, mark: bytes) -> bytes:
    """Return the bytes of a text that replaces another.

    text: may hold the old one.
    old, mark: from `read_text`; the mark's encoding is kept.

    Raises UntouchableError if the old text's encoding is unknown and would be mixed with UTF-8, or cannot hold the new
    text.
    """
    if old in text and not is_encodable(old):
        added = text.replace(old, "", 1)
        if not added.isascii() and is_encodable(added):
            raise UntouchableError("its text is not UTF-8, and the caption would be; left as it is")
    codec = next((codec for codec, each in MARKS.items() if each == mark), "utf-8")
    try:
        return mark + text.encode(codec, "surrogateescape" if codec == "utf-8" else "strict")
    except UnicodeEncodeError:
        raise UntouchableError(f"its text is in {codec}, which cannot hold the caption; left as it is") from None


def common_root(arguments: list[str]) -> str:
    """Return the folder that a tree of sidecars mirrors: the deepest one with all images.

    arguments: files, folders and globs from the user. Without any, or on several drives, it is the current folder.
    """
    folders = folders_of(arguments)
    try:
        return os.path.commonpath(folders) if folders else os.getcwd()
    except ValueError:  # on different drives
        return os.getcwd()
