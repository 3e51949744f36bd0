"""The metadata fields that captions go into, and what becomes of their content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from capcli.outputs.existing import HOLE, KEPT, SEPARATOR, combine
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import NOTHING, PROGRAM_DATA, WRITTEN, Edit, ShownTexts, joined
from capcli.outputs.rows import is_encodable


@dataclass(frozen=True)
class Filling:
    """Fill in the fields asked for.

    fields: to write, of existing.FIELDS.
    existing: one of EXISTING, for descriptions and alt texts. Keywords are only added.
    separator: joins these to the caption, as in `combine`.
    """

    fields: tuple[str, ...] = ("description",)
    existing: str = "skip"
    separator: str | None = None

    def has_all(self, shown: ShownTexts) -> bool:
        """Return whether no field is empty."""
        return all(getattr(shown, field) for field in self.fields)

    def collides(self, shown: ShownTexts) -> bool:
        """Return whether a text stands where one would be written; more keywords do no harm."""
        return any(getattr(shown, field) for field in self.fields if field != "keywords")

    def filled(self, file: Container, text: str, keywords: Iterable[str] = (), beneath: ShownTexts = NOTHING) -> bytes:
        """Return a file with a caption in its fields.

        file: the old one.
        text: the caption.
        keywords: of the caption.
        beneath: shown where the file says nothing.

        Raises MetadataError if it cannot be written safely.
        """
        if not is_encodable(text):
            raise MetadataError("its name is not UTF-8, so the template cannot write it into metadata")
        shown, new = file.shown.over(beneath), tuple(keywords)
        expected = file.shown

        # Each text is changed by itself, so that none is lost. An empty one starts from what was shown before, as it
        # may now be shown first.
        def description(old: str) -> str:
            if PROGRAM_DATA.match(old):
                raise MetadataError("its description holds a program's data; left as it is")
            return combine(file.words(old) or shown.description, text, self.existing, self.separator)

        def alt(old: str) -> str:
            return combine(old or shown.alt, text, self.existing, self.separator)

        edit = Edit()
        if self.writes("description", shown):
            edit = edit._replace(description=description)
            expected = replace(expected, description=description(shown.description))
        if self.writes("alt", shown):
            edit = edit._replace(alt=alt)
            expected = replace(expected, alt=alt(shown.alt))
        if "keywords" in self.fields and new:
            edit = edit._replace(keywords=lambda old: joined(old or shown.keywords, new))
        content = file.with_texts(edit)
        after = type(file)(content)
        there = (after.shown.description, after.shown.alt)
        lost = set(joined(file.shown.keywords, ())) - set(after.shown.keywords)
        if "keywords" in self.fields:  # may be there in another spelling, or from beneath
            lost |= {word.casefold() for word in new} - {word.casefold() for word in after.shown.keywords}
        if there != (expected.description, expected.alt) or lost or after.with_texts(edit) != content:
            raise MetadataError("the caption could not be read back; the file is left as it was")
        return content

    def writes(self, field: str, shown: ShownTexts) -> bool:
        """Return whether a field that shows this gets a text."""
        return field in self.fields and not (self.existing in KEPT and getattr(shown, field))

    def replaced(self, file: Container, text: str) -> int:
        """Return how many texts of the old file a caption replaces."""
        if self.existing != "overwrite" or HOLE in text:
            return 0
        there = {
            (found.field, file.words(found.text) if found.field == "description" else found.text)
            for found in file.found
            if found.place in WRITTEN and found.field in self.fields and found.field != "keywords"
        }
        return sum(old not in ("", text) for _, old in there)


def changed(file: Container, content: bytes, place: str) -> list[tuple[str, str, str]]:
    """Return the fields that differ in two states of a file, each with the place, the old text and the new one.

    file: as it is.
    content: as it would be.
    place: what messages call the file.
    """
    old, new = vars(file.shown), vars(type(file)(content).shown)
    texts = {name: [SEPARATOR.join((each,) if isinstance(each, str) else each) for each in (old[name], new[name])]
             for name in old}  # fmt: skip
    return [(f"{place}, {name}", before, after) for name, (before, after) in texts.items() if before != after]
