"""XMP packets, after part 1 of the XMP specification: in images and in sidecars."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import Change, Edit, Found, Listing

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
IPTC_CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
CAPCLI = "urn:capcli:written/1.0/"  # of what capcli remembers of its texts
DEFAULT = "x-default"
LANG = "http://www.w3.org/XML/1998/namespace lang"
EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
START_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
ATTRIBUTE = rb"""\s+[\w.-]+:%s\s*=\s*(?:"[^"]*"|'[^']*')"""
UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # not a Char of XML 1.0
RETURN = {"\r": "&#13;"}  # XML parsers would turn a bare one into a line feed


class Name(NamedTuple):
    """Name a property.

    field: its one of existing.FIELDS.
    prefix: the usual one.
    namespace, local: its qualified name.
    """

    field: str
    prefix: str
    namespace: str
    local: str


NAMES = {
    f"{name.namespace} {name.local}": name
    for name in (
        Name("description", "dc", DC, "description"),
        Name("alt", "Iptc4xmpCore", IPTC_CORE, "AltTextAccessibility"),
        Name("keywords", "dc", DC, "subject"),
        Name("writer", "photoshop", PHOTOSHOP, "CaptionWriter"),
        Name("record", "capcli", CAPCLI, "Written"),
    )
}
SIMPLE = ("writer", "record")  # properties that hold a text alone
CONTAINERS = (f"{RDF} Alt", f"{RDF} Bag", f"{RDF} Seq")


class Span(NamedTuple):
    """Hold a range of a packet, in bytes."""

    start: int
    end: int


@dataclass
class Item:
    """Hold an rdf:li element.

    inside: range of its content; None for one empty tag.
    whole: its range; None for a text that is in no rdf:li.
    """

    language: str
    text: str = ""
    inside: Span | None = None
    whole: Span | None = None


@dataclass
class Element:
    """Hold a property's element.

    whole: its range.
    inside: range of the content of its rdf:Alt, rdf:Bag or rdf:Seq; None without one, or for one empty tag.
    prefix: of RDF's names in it, with colon; may be empty.
    items: its rdf:li elements, and any text outside of them.
    """

    whole: Span
    inside: Span | None = None
    prefix: str = ""
    items: list[Item] = field(default_factory=list)


@dataclass
class Property:
    """Hold a packet's values of a property.

    attribute: its value as an attribute, not an element.
    attributes: the ranges of these, with the white space before them.
    """

    name: Name
    elements: list[Element] = field(default_factory=list)
    attribute: str = ""
    attributes: list[Span] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        return [item for element in self.elements for item in element.items]

    @property
    def texts(self) -> dict[str, str]:
        """Return its texts by language, stripped, without empty ones."""
        texts = {DEFAULT: self.attribute}
        for item in self.items:
            texts[item.language] = texts.get(item.language, "") + item.text
        return {language: text.strip() for language, text in texts.items() if text.strip()}

    @property
    def keywords(self) -> tuple[str, ...]:
        """Return its texts, stripped, without empty ones."""
        texts = [self.attribute, *(item.text for item in self.items)]
        return tuple(text.strip() for text in texts if text.strip())


class Packet:
    """Hold a packet's content, and its ranges.

    properties: by field.
    end: where the rdf:RDF element's end tag begins, in bytes.
    about: the subject of the packet's descriptions, or None.
    """

    def __init__(self, packet: bytes) -> None:
        """Parse a packet. Raises MetadataError if it is damaged."""
        self.properties = {name.field: Property(name) for name in NAMES.values()}
        self.end = -1
        self.about: str | None = None
        self.packet = packet
        self.path: list[tuple[str, int]] = []  # open elements, and where their start tags end
        self.element: Element | None = None
        self.item: Item | None = None
        self.plain = Item(DEFAULT)  # text of the element outside any rdf:li
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.enter
        self.parser.EndElementHandler = self.leave
        self.parser.CharacterDataHandler = self.read
        self.parser.StartDoctypeDeclHandler = self.refuse
        self.parser.XmlDeclHandler = self.check_encoding
        try:
            packet.decode()
            self.parser.Parse(packet, True)
        except (expat.ExpatError, UnicodeDecodeError):
            raise MetadataError("damaged XMP") from None
        if self.end < 0:
            raise MetadataError("damaged XMP")

    def refuse(self, *_: object) -> None:
        """Refuse document types, which XMP lacks: their entities could grow without bound."""
        raise MetadataError("damaged XMP")

    def check_encoding(self, _: str, encoding: str | None, __: int) -> None:
        """Refuse encodings other than UTF-8, which is written."""
        if encoding and encoding.lower() != "utf-8":
            raise MetadataError(f"its XMP is in {encoding}, not in UTF-8; left as it is")

    def enter(self, name: str, attributes: dict[str, str]) -> None:
        above = [each for each, _ in self.path[-2:]]
        start = self.parser.CurrentByteIndex
        tag = START_TAG.match(self.packet, start)
        self.path.append((name, tag.end() if tag else start))
        if above[-1:] == [f"{RDF} RDF"] and name == f"{RDF} Description":
            self.about = attributes.get(f"{RDF} about", self.about)
            for qualified, known in NAMES.items():
                if qualified in attributes:
                    self.properties[known.field].attribute += attributes[qualified]
                    here = ATTRIBUTE % known.local.encode()
                    for found in re.finditer(here, self.packet[: self.path[-1][1]][start:]):
                        self.properties[known.field].attributes.append(Span(start + found.start(), start + found.end()))
        elif above == [f"{RDF} RDF", f"{RDF} Description"] and name in NAMES:
            self.element = Element(Span(start, start))
            self.item = self.plain = Item(DEFAULT)
            self.properties[NAMES[name].field].elements.append(self.element)
        elif self.element is not None and name == f"{RDF} li":
            self.item = Item(attributes.get(LANG) or DEFAULT, whole=Span(start, start))
            self.element.items.append(self.item)

    def read(self, text: str) -> None:
        if self.item is not None:
            self.item.text += text

    def leave(self, name: str) -> None:
        _, start = self.path.pop()
        here = self.parser.CurrentByteIndex  # the end tag begins here, or an empty tag ended
        tag = re.compile(rb"</([^>]*?)%s\s*>" % name.split(" ")[-1].encode()).match(self.packet, here)
        inside = Span(start, here) if tag else None
        if name == f"{RDF} RDF":
            self.end = here
            if not tag:
                raise MetadataError("an XMP block without content")
        if self.element is None:
            return
        if name == f"{RDF} li" and self.item is not None:
            self.item.inside = inside
            self.item.whole = Span(self.item.whole.start if self.item.whole else here, tag.end() if tag else here)
            self.item = None  # the white space between items belongs to none
        elif name in CONTAINERS and self.path[-1][0] in NAMES and tag:
            self.element.inside = inside
            self.element.prefix = tag[1].decode()
        elif name in NAMES:
            self.element.whole = Span(self.element.whole.start, tag.end() if tag else here)
            self.element.items += [self.plain] if self.plain.text.strip() else []
            self.element = self.item = None


def texts(packet: bytes) -> list[Found]:
    """Return a packet's description with translations, alt text and keywords. Raises MetadataError."""
    packet = packet.strip(b"\0")
    if not packet:
        return []
    properties = Packet(packet).properties
    descriptions = properties["description"].texts
    return [
        Found("XMP", descriptions.pop(DEFAULT, "")),
        *(Found("translation", text) for text in descriptions.values()),
        *(Found("XMP", text, "alt") for language, text in properties["alt"].texts.items() if language == DEFAULT),
        *(Found("XMP", keyword, "keywords") for keyword in properties["keywords"].keywords),
        *(Found("XMP", text, name) for name in SIMPLE if (text := properties[name].texts.get(DEFAULT))),
    ]


def with_texts(packet: bytes, edit: Edit) -> bytes:
    """Return a packet with its default-language texts edited; the rest stays byte for byte.

    packet: empty for a file without XMP, which gets a new packet if there is anything to write.

    Raises MetadataError.
    """
    content = packet.strip(b"\0") or EMPTY
    old = Packet(content)
    pieces: list[tuple[Span, str]] = []  # replacements
    new = ""  # elements of missing properties
    for name, found in old.properties.items():
        change = getattr(edit, name)
        if name in SIMPLE:
            changed = simple_changed(found, change)
        else:
            changed = keywords_changed(found, change) if name == "keywords" else text_changed(found, change, content)
        if changed and found.attribute and name not in SIMPLE:
            raise MetadataError("its XMP holds the caption as an attribute; left as it is")
        for span, text in changed:
            if UNWRITABLE.search(text):
                raise MetadataError("its caption holds a character that XMP cannot hold")
            if span is None:
                new += text
            else:
                pieces.append((span, text))
    if new:
        pieces.append((Span(old.end, old.end), parent_of(new, old.about)))
    for span, text in sorted(pieces, reverse=True):
        content = content[: span.start] + text.encode() + content[span.end :]
    if not all(text for _, text in pieces):  # something was removed
        content = content.replace(parent_of("", old.about).encode(), b"")
    return (b"" if content.strip() == EMPTY else content) if pieces else packet


def parent_of(elements: str, about: str | None) -> str:
    """Return the rdf:Description in which elements are added."""
    return f'<rdf:Description xmlns:rdf="{RDF}" rdf:about={quoteattr(about or "")}>{elements}</rdf:Description>'


Changes = list[tuple[Span | None, str]]  # replacements by range; None for a new element


def text_changed(old: Property, change: Change, packet: bytes) -> Changes:
    """Return the edits that change a property's default language, or remove it if empty; translations survive."""
    texts = old.texts
    before = texts.pop(DEFAULT, "")
    new = change("XMP", before)
    if new == before:
        return []
    only = old.elements[0] if len(old.elements) == 1 else None
    defaults = [item for item in old.items if item.language == DEFAULT]
    if not new:
        wholes = [item.whole for item in defaults] if texts else [each.whole for each in old.elements]
        return [(whole, "") for whole in wholes if whole]
    if only is not None and only.inside:
        if not defaults:  # the specification wants it to be the first
            return [(Span(only.inside.start, only.inside.start), as_items({DEFAULT: new}, only.prefix))]
        if len(defaults) == 1 and defaults[0].inside:
            return [respelt(defaults[0].inside, packet, before, new)]
    return rewritten(old, "Alt", as_items({DEFAULT: new} | texts, "rdf:"))


def respelt(inside: Span, packet: bytes, old: str, new: str) -> tuple[Span, str]:
    """Return the change from one text to another, which leaves a part that stays as it was spelt.

    inside: range of the old text's element.
    """
    raw = packet[inside.start : inside.end].decode()
    plain = raw.strip()
    start = inside.start + len(raw[: raw.find(plain)].encode())
    end = start + len(plain.encode())
    if "<" in raw or "&#" in raw:
        return inside, escape(new, RETURN)
    if old and old in new:
        before, after = (escape(each, RETURN) for each in new.split(old, 1))
        return Span(start, end), before + plain + after
    before, after = (escape(each, RETURN) for each in old.split(new, 1)) if new in old else ("", "")
    if new in old and plain.startswith(before) and plain.endswith(after):
        return Span(start, end), plain[len(before) : len(plain) - len(after)]
    return inside, escape(new, RETURN)


def keywords_changed(old: Property, change: Listing) -> Changes:
    """Return the changes that add keywords to a list, and take others out."""
    new = change("XMP", old.keywords)
    added = [keyword for keyword in new if keyword not in old.keywords]
    removed = [item for item in old.items if item.text.strip() and item.text.strip() not in new]
    if not (added or removed):
        return []
    if not new:
        return [(each.whole, "") for each in old.elements]
    only = old.elements[0] if len(old.elements) == 1 else None
    if only is not None and only.inside and all(item.whole for item in removed):
        changes: Changes = [(item.whole, "") for item in removed]
        return [*changes, (Span(only.inside.end, only.inside.end), as_list(added, only.prefix))]
    return rewritten(old, "Bag", as_list(new, "rdf:"))


def simple_changed(old: Property, change: Change) -> Changes:
    """Return the changes to a property that holds a text alone."""
    before = old.texts.get(DEFAULT, "")
    new = change("XMP", before)
    if new == before:
        return []
    spans: list[Span | None] = [*(each.whole for each in old.elements), *old.attributes]
    prefix, namespace, local = old.name[1:]
    element = f'<{prefix}:{local} xmlns:{prefix}="{namespace}">{escape(new, RETURN)}</{prefix}:{local}>' if new else ""
    if old.elements or not new:
        return list(zip(spans, [element, *[""] * len(spans)], strict=False))  # one text more, where there are none
    return [*((span, "") for span in spans), (None, element)]


def rewritten(old: Property, container: str, items: str) -> Changes:
    """Return the changes that put one element in place of a property's own."""
    prefix, namespace, local = old.name[1:]
    element = (
        f'<{prefix}:{local} xmlns:{prefix}="{namespace}" xmlns:rdf="{RDF}">'
        f"<rdf:{container}>{items}</rdf:{container}></{prefix}:{local}>"
    )
    spans: list[Span | None] = [each.whole for each in old.elements]
    return list(zip(spans or [None], [element, *[""] * len(spans)], strict=False))


def as_items(texts: dict[str, str], prefix: str) -> str:
    """Return texts by language as list elements. prefix: of RDF's names, with colon."""
    return "".join(f"<{prefix}li xml:lang={quoteattr(k)}>{escape(v, RETURN)}</{prefix}li>" for k, v in texts.items())


def as_list(texts: Iterable[str], prefix: str) -> str:
    """Return texts as list elements."""
    return "".join(f"<{prefix}li>{escape(text, RETURN)}</{prefix}li>" for text in texts)
