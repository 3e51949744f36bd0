"""The metadata fields that captions go into, and what becomes of their content."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capcli.outputs.existing import HOLE, KEPT_OF_OTHERS, SEPARATOR, combine
from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.record import Record
from capcli.outputs.metadata.texts import NOTHING, PROGRAM_DATA, WRITTEN, Change, Edit, ShownTexts, joined
from capcli.outputs.ownership import Entry, digest_of, is_signature
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

    def seen(self, file: Container) -> ShownTexts:
        """Return what a file shows; with `own`, what a person wrote into it."""
        return Record.of(file).persons(file) if self.existing == "own" else file.shown

    def has_all(self, shown: ShownTexts) -> bool:
        """Return whether no field is empty."""
        return all(getattr(shown, field) for field in self.fields)

    def collides(self, shown: ShownTexts) -> bool:
        """Return whether a text stands where one would be written; more keywords do no harm."""
        return any(getattr(shown, field) for field in self.fields if field != "keywords")

    def filled(
        self,
        file: Container,
        text: str,
        keywords: Iterable[str] = (),
        beneath: ShownTexts = NOTHING,
        by: str = "",
    ) -> bytes:
        """Return a file with a caption in its fields, signed.

        file: the old one.
        text: the caption.
        keywords: of the caption.
        beneath: shown where the file says nothing, as `seen` returns it.
        by: the signature; empty for a person's caption, which is not signed.

        Raises MetadataError if it cannot be written safely.
        """
        if not is_encodable(text):
            raise MetadataError("its name is not UTF-8, so the template cannot write it into metadata")
        work = Work(self, file, text, tuple(keywords), self.seen(file).over(beneath))
        content = file.with_texts(work.edit)
        if content == file.content:
            return content
        edit = work.signed(type(file)(content), by)
        content = file.with_texts(edit)
        after = type(file)(content)
        there = (after.shown.description, after.shown.alt)
        lost = set(joined(file.shown.keywords, ())) - set(after.shown.keywords) - work.replaced_keywords
        if "keywords" in self.fields:  # may be there in another spelling, or from beneath
            lost |= {word.casefold() for word in keywords} - {word.casefold() for word in after.shown.keywords}
        if there != work.expected or lost or after.with_texts(edit) != content:
            raise MetadataError("the caption could not be read back; the file is left as it was")
        return content

    def writes(self, field: str, shown: ShownTexts) -> bool:
        """Return whether a field that shows this gets a text."""
        return field in self.fields and not (self.existing in KEPT_OF_OTHERS and getattr(shown, field))

    def replaced(self, file: Container, text: str) -> int:
        """Return how many texts of the old file a caption replaces."""
        if self.existing not in ("overwrite", "own") or HOLE in text:
            return 0
        there = {
            (found.field, file.words(found.text) if found.field == "description" else found.text)
            for found in file.found
            if found.place in WRITTEN and found.field in self.fields and found.field != "keywords"
        }
        return sum(old not in ("", text) for _, old in there)


class Work:
    """Fill in the fields of one file, and note what was written.

    shown: what the file shows, as `Filling.seen` returns it, over what is beneath.
    edit: changes the texts.
    expected: the description and the alt text that the file is to show.
    replaced_keywords: capcli's, which make room for others.
    """

    def __init__(
        self, filling: Filling, file: Container, text: str, keywords: tuple[str, ...], shown: ShownTexts
    ) -> None:
        self.filling, self.file, self.text, self.keywords, self.shown = filling, file, text, keywords, shown
        self.record = Record.of(file)
        self.own = filling.existing == "own"
        self.texts: dict[str, Entry] = {}  # by place and field
        self.lists: dict[str, list[str]] = {}  # capcli's keywords, by place
        self.replaced_keywords = {k for each in self.record.keywords.values() for k in each} if self.own else set()
        self.edit = Edit()
        expected = {"description": file.shown.description, "alt": file.shown.alt}
        for field in expected:
            if filling.writes(field, shown):
                change = self.change(field)
                self.edit = self.edit._replace(**{field: change})  # type: ignore[arg-type]
                expected[field] = change(*self.first(field))
        self.texts.clear()
        if "keywords" in filling.fields and keywords:
            self.edit = self.edit._replace(keywords=self.listed)
        self.expected = (expected["description"], expected["alt"])

    def first(self, field: str) -> tuple[str, str]:
        """Return the place and the text that the file shows in a field, or what is shown from beneath."""
        there = (found for found in self.file.found if found.field == field)
        words = self.file.description if field == "description" else lambda found: found.text
        return next(((found.place, found.text) for found in there if words(found)), ("", getattr(self.shown, field)))

    def change(self, field: str) -> Change:
        """Return what changes a field's texts, each by itself, so that none is lost."""

        def changed(place: str, old: str) -> str:
            if field == "description" and PROGRAM_DATA.match(old):
                raise MetadataError("its description holds a program's data; left as it is")
            persons = self.file.words(old) if field == "description" else old
            entry = self.record.entry(place, field, old)
            filling = self.filling
            if self.own:
                around = self.around(field, old) or entry
                new = around.renewed(old, self.text, filling.separator) if around else persons or self.text
            else:  # an empty one starts from what was shown before, as it may now be shown first
                was = persons or getattr(self.shown, field)
                new = combine(was, self.text, filling.existing, filling.separator)
            if new != old:
                self.texts[f"{place} {field}"] = Entry.of(old, new, entry, persons)
            return new

        return changed

    def around(self, field: str, text: str) -> Entry | None:
        """Return an entry that says where a person's words are in a text of capcli's; None if there are none.

        Another place may have it: where there was no text before, that is what a text is remembered to come from.
        """
        places = (self.record.entry(place, field, text) for place in WRITTEN)
        return next((entry for entry in places if entry and entry.end > entry.start), None)

    def listed(self, place: str, old: tuple[str, ...]) -> tuple[str, ...]:
        """Return a list of keywords with those of the caption."""
        ours = self.record.keywords.get(place, [])
        kept = tuple(each for each in old if not (self.own and each in ours)) or self.shown.keywords
        there = {each.casefold() for each in kept}
        new = (*kept, *(each for each in joined((), self.keywords) if each.casefold() not in there))
        self.lists[place] = [each for each in new if each in ours or each not in old]
        return new

    def signed(self, after: Container, by: str) -> Edit:
        """Return the edit that signs, too. after: the file with its new texts."""
        record = self.record
        before = record.before or digest_of(self.file.content)
        declared = record.declared or ("declared" in fields_of(after) and "declared" not in fields_of(self.file))
        texts = {key: entry for key, entry in record.texts.items() if key not in self.texts}
        lists = dict(record.keywords)
        if by:
            texts, lists = texts | self.texts, lists | self.lists
        text = Record(texts, lists, before, declared).as_text()
        described = any(key.endswith(" description") for key in self.texts)

        def writer(place: str, old: str) -> str:
            return by if described and (not old or is_signature(old)) else old

        return self.edit._replace(writer=writer, record=lambda place, old: text)


def fields_of(file: Container) -> set[str]:
    """Return the fields that a file has texts in."""
    return {found.field for found in file.found}


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
