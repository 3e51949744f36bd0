"""What capcli remembers, in a file's XMP, of the texts that it wrote there: so they are told from a person's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from capcli.outputs.metadata.container import Container
from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import Change, Edit, Found, ShownTexts
from capcli.outputs.ownership import Entry, digest_of, is_signature


@dataclass
class Record:
    """Hold what is remembered.

    texts: entries by place and field, joined by a space.
    keywords: those that capcli added, by place.
    before: digest of the file before capcli's first text.
    declared: whether capcli declared UTF-8 in its IPTC block.
    changed: fields whose text has changed since.
    """

    texts: dict[str, Entry] = field(default_factory=dict)
    keywords: dict[str, list[str]] = field(default_factory=dict)
    before: str = ""
    declared: bool = False
    changed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, file: Container) -> Record:
        """Return a file's record, without what has changed since; an empty one if there is none that can be read."""
        for found in file.found:
            if found.field == "record":
                try:
                    record = cls.read(found.text)
                except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                    continue
                there = [(f"{each.place} {each.field}", digest_of(each.text)) for each in file.found]
                record.changed = {
                    key.split()[1] for key, each in record.texts.items() if (key, each.digest) not in there
                }
                record.texts = {key: each for key, each in record.texts.items() if (key, each.digest) in there}
                lists = {place: keywords_at(place, file) for place in record.keywords}
                record.keywords = {p: [k for k in record.keywords[p] if k in lists[p]] for p in lists}
                return record
        return cls()

    @classmethod
    def read(cls, text: str) -> Record:
        """Return a record. Raises ValueError, TypeError, LookupError, AttributeError or RecursionError for no such."""
        value = json.loads(text)
        texts = {str(key): Entry.read(entry) for key, entry in value.get("texts", {}).items()}
        keywords = {str(place): [str(each) for each in listed] for place, listed in value.get("keywords", {}).items()}
        return cls(texts, keywords, str(value.get("before", "")), value.get("declared") is True)

    def as_text(self) -> str:
        """Return the record as JSON, empty if nothing is remembered."""
        keywords = {place: listed for place, listed in self.keywords.items() if listed}
        if not (self.texts or keywords):
            return ""
        value: dict[str, object] = {
            "texts": {key: entry.shortened for key, entry in self.texts.items()},
            "keywords": keywords,
        }
        value |= {"before": self.before, "declared": self.declared}
        return json.dumps({name: each for name, each in value.items() if each}, ensure_ascii=False)

    def entry(self, place: str, field: str, text: str) -> Entry | None:
        """Return the entry of a text; None for one that capcli did not write, or that has changed since."""
        entry = self.texts.get(f"{place} {field}")
        return entry if entry and entry.digest == digest_of(text) else None

    def persons(self, file: Container) -> ShownTexts:
        """Return what a person wrote into the fields of a file, "" where capcli's texts alone are there.

        Keywords that capcli added leave the list to it.
        """
        theirs = [found for found in file.found if not self.entry(*found[::2], found.text)]
        if any(key.endswith(" description") for key in self.texts):  # in the default language
            theirs = [found for found in theirs if found.place != "translation"]
        descriptions = (file.description(found) for found in theirs if found.field == "description")
        alts = (found.text for found in theirs if found.field == "alt")
        keywords = () if any(self.keywords.values()) else file.shown.keywords
        return ShownTexts(next(filter(None, descriptions), ""), next(filter(None, alts), ""), keywords)


class Taken(NamedTuple):
    """Hold a file without what capcli wrote.

    content: of the file; empty if capcli had made it.
    removed: whether anything was taken out.
    exact: whether the file is byte for byte as it was before.
    overwritten: fields whose earlier text is not known.
    changed: fields whose text has changed since, or whose record is gone: it stays.
    """

    content: bytes
    removed: bool
    exact: bool
    overwritten: list[str]
    changed: list[str]


def without_ours(file: Container) -> Taken:
    """Return a file without what capcli wrote into it. Raises MetadataError if that cannot be done safely."""
    record = Record.of(file)
    signed = any(found.field in ("writer", "record") and is_ours(found) for found in file.found)
    if not signed:
        return Taken(file.content, False, False, [], [])

    def text(field: str) -> Change:
        def earlier(place: str, old: str) -> str:
            entry = record.entry(place, field, old)
            return old if entry is None else entry.before or entry.original(old) or ""

        return earlier

    edit = Edit(
        text("description"),
        text("alt"),
        lambda place, old: tuple(each for each in old if each not in record.keywords.get(place, ())),
        lambda place, old: "" if is_signature(old) else old,
        lambda place, old: "",
        not record.declared,
    )
    content = file.with_texts(edit)
    if record.declared and digest_of(content) != record.before:  # a text may have been added that needs it
        edit = edit._replace(declared=True)
        content = file.with_texts(edit)
    after = type(file)(content)
    if any(is_ours(found) for found in after.found) or (content and after.with_texts(edit) != content):
        raise MetadataError("capcli's texts could not be taken out; the file is left as it was")
    lost = {key.split()[1] for key, entry in record.texts.items() if entry.is_lost}
    changed = record.changed or ({"description"} if not record.before and file.caption else set())
    return Taken(content, True, digest_of(content) == record.before, sorted(lost), sorted(changed))


def is_ours(found: Found) -> bool:
    """Return whether a text is capcli's signature or record."""
    return found.field == "record" or (found.field == "writer" and is_signature(found.text))


def keywords_at(place: str, file: Container) -> list[str]:
    """Return a file's keywords in a place."""
    return [found.text for found in file.found if found.field == "keywords" and found.place == place]
