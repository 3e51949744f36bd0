"""Taking out what capcli wrote: in images, in their XMP sidecars, and in the texts beside them that a cache knows."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.fields import changed
from capcli.outputs.metadata.parsing import parse
from capcli.outputs.metadata.record import without_ours
from capcli.outputs.originals import UntouchableError, original
from capcli.outputs.ownership import digest_of
from capcli.outputs.sidecars import encoded, read_text
from capcli.outputs.sink import failed_write
from capcli.outputs.xmp_sidecars import XmpFile
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.outputs.written import Written

STAYS = "{} stays, as it has changed since"
LOST = "{} is empty now, as what capcli overwrote is not known"


@dataclass
class Removed:
    """Hold what was taken out of one file.

    texts: what changed: place, old text and new text.
    exact: whether the file is byte for byte as it was before; one that capcli made is gone.
    notes: what could not be restored, and what stays.
    """

    path: str
    texts: list[tuple[str, str, str]]
    exact: bool
    notes: list[str] = field(default_factory=list)


class Removal:
    """Take out capcli's texts, file by file, each whole or not at all."""

    def __init__(self, written: Written | None = None, folders: Iterable[str] = (), dry_run: bool = False) -> None:
        """Set what to do.

        written: knows the texts beside images; None leaves these.
        folders: named by the user, so links into them are followed.
        dry_run: whether to change nothing.
        """
        self.written, self.folders, self.dry_run = written, tuple(folders), dry_run

    def of_image(self, image: str, wrong: list[ImageError]) -> Iterator[Removed]:
        """Yield what is taken out of an image and the files beside it. wrong: gets what fails. Raises OutputError."""
        beside = [name for name in (f"{image}.xmp", f"{os.path.splitext(image)[0]}.xmp") if os.path.isfile(name)]
        works = [functools.partial(self.of_metadata, image, name, XmpFile) for name in beside]
        works.append(functools.partial(self.of_metadata, image, image, lambda content: parse(content, image)))
        texts = self.written.places(image) if self.written else ()
        for work in [*works, *(functools.partial(self.of_text, image, text) for text in texts)]:
            try:
                if removed := work():
                    yield removed
            except ImageError as error:
                wrong.append(error)

    def of_metadata(self, image: str, path: str, read: Callable[[bytes], Container]) -> Removed | None:
        """Take capcli's texts out of a file with metadata; None if it has none. Raises ImageError and OutputError."""
        inside = path == image
        try:
            file = read(Path(path).read_bytes())
            taken = without_ours(file)
            if not taken.removed:
                return None
            if not self.dry_run:
                target = original(path, self.folders)
                with WholeFile(target, like=target, keep_times=inside, timeout=REPLACE_TIMEOUT) as new:
                    file = read(target.read_bytes())  # it may have changed before it was locked
                    taken = without_ours(file)
                    if taken.content:
                        new.write_bytes(taken.content)
                    else:
                        target.unlink()
        except MetadataError as error:
            raise ImageError(image, str(error) if inside else f"{path}: {error}", str(error)) from None
        except (UntouchableError, OSError) as error:
            raise failed_write(image, path, error) from None
        notes = [*map(LOST.format, taken.overwritten), *map(STAYS.format, taken.changed)]
        return Removed(path, changed(file, taken.content, "its metadata" if inside else path), taken.exact, notes)

    def of_text(self, image: str, path: str) -> Removed | None:
        """Take capcli's text out of a file beside an image; None if that is gone. Raises ImageError and OutputError."""
        assert self.written is not None
        try:
            target = original(path, self.folders)
            if not target.exists():
                return None
            with WholeFile(target, durable=False, like=target, timeout=REPLACE_TIMEOUT) as file:
                old, mark = read_text(target)
                noted = self.written.find(path, old)
                if noted is None:
                    return Removed(path, [], False, [STAYS.format("the text")])
                kept = noted.entry.original(old) or ""
                forms = [encoded(kept + end, old, mark) for end in ("\n", "", "\r\n")] if kept else [b""]
                content = next((each for each in forms if digest_of(each) == noted.before), forms[0])
                if content and not self.dry_run:
                    file.write_bytes(content)
                elif not self.dry_run:
                    target.unlink()
        except (UntouchableError, OSError) as error:
            raise failed_write(image, path, error) from None
        if not self.dry_run:
            self.written.forget(path)
            self.written.flush()
        notes = [LOST.format("the text")] if noted.entry.is_lost else []
        return Removed(path, [(path, old, kept)], digest_of(content) == noted.before, notes)
