"""XMP packets, after part 1 of the XMP specification."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from capcli.outputs.metadata.errors import MetadataError
from capcli.outputs.metadata.texts import Change, Found

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
DEFAULT = "x-default"
LANG = "http://www.w3.org/XML/1998/namespace lang"
EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()
UNWRITABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # not a Char of XML 1.0
RETURN = {"\r": "&#13;"}  # because XML parsers turn a bare carriage return into a line feed


class Description:
    """Hold what a packet's dc:description says in which language, and where it is.

    spans: (start, end) of each dc:description element, in bytes.
    texts: by language.
    is_attribute: whether there is a dc:description that is an attribute instead of an element.
    end: where the end tag of the rdf:RDF element begins, in bytes.
    about: the subject that the packet's descriptions name; None if they name none.
    """

    def __init__(self, packet: bytes) -> None:
        """Parse a packet. Raises MetadataError if it is damaged."""
        self.spans: list[tuple[int, int]] = []
        self.texts: dict[str, str] = {}
        self.is_attribute = False
        self.end = -1
        self.about: str | None = None
        self.packet = packet
        self.start: int | None = None
        self.language = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.enter
        self.parser.EndElementHandler = self.leave
        self.parser.CharacterDataHandler = self.read
        self.parser.StartDoctypeDeclHandler = self.refuse
        try:
            packet.decode()
            self.parser.Parse(packet, True)
        except (expat.ExpatError, UnicodeDecodeError):
            raise MetadataError("damaged XMP") from None
        if self.end < 0:
            raise MetadataError("damaged XMP")

    def refuse(self, *_: object) -> None:
        """Refuse document types, which XMP does not have: their entities could grow without bound."""
        raise MetadataError("damaged XMP")

    def enter(self, name: str, attributes: dict[str, str]) -> None:
        """Handle the start of an element."""
        if name == f"{RDF} Description":
            self.about = attributes.get(f"{RDF} about", self.about)
            if text := attributes.get(f"{DC} description"):
                self.is_attribute = True
                self.texts[DEFAULT] = text
        elif name == f"{DC} description":
            self.start = self.parser.CurrentByteIndex
            self.language = DEFAULT
        elif self.start is not None and name == f"{RDF} li":
            self.language = attributes.get(LANG) or DEFAULT

    def read(self, text: str) -> None:
        """Handle characters between elements."""
        if self.start is not None:
            self.texts[self.language] = self.texts.get(self.language, "") + text

    def leave(self, name: str) -> None:
        """Handle the end of an element."""
        if name == f"{RDF} RDF":
            self.end = self.parser.CurrentByteIndex
            if not re.compile(rb"</[^>]*RDF\s*>").match(self.packet, self.end):  # one empty tag
                raise MetadataError("an XMP block without content")
        elif name == f"{RDF} li":
            self.language = ""  # the white space between items belongs to no language
        elif name == f"{DC} description" and self.start is not None:
            here = self.parser.CurrentByteIndex  # the end tag begins here, or one empty tag ended
            tag = re.compile(rb"</[^>]*description\s*>").match(self.packet, here)
            self.spans.append((self.start, tag.end() if tag else here))
            self.start = None


def captions(packet: bytes) -> list[Found]:
    """Return a packet's dc:description in the default language, and its translations. Raises MetadataError."""
    packet = packet.strip(b"\0")
    if not packet:
        return []
    texts = stripped(Description(packet).texts)
    return [Found("XMP", texts.pop(DEFAULT, "")), *(Found("translation", text) for text in texts.values())]


def with_caption(packet: bytes, change: Change) -> bytes:
    """Return a packet with its dc:description in the default language changed; the rest stays the same byte for byte.

    packet: empty for a file without XMP, which gets a new packet.
    change: is applied to the description.

    Raises MetadataError.
    """
    content = packet.strip(b"\0") or EMPTY
    old = Description(content)
    texts = stripped(old.texts)
    new = change(texts.get(DEFAULT, ""))
    if new == texts.get(DEFAULT):
        return packet
    if old.is_attribute:
        raise MetadataError("its XMP holds the caption as an attribute; left as it is")
    if UNWRITABLE.search(new):
        raise MetadataError("its caption holds a character that XMP cannot hold")
    texts[DEFAULT] = new
    items = "".join(
        f"<rdf:li xml:lang={quoteattr(k)}>{escape(v, RETURN)}</rdf:li>" for k, v in sorted(texts.items(), key=first)
    )
    element = (
        f'<dc:description xmlns:dc="{DC}" xmlns:rdf="{RDF}"><rdf:Alt>{items}</rdf:Alt></dc:description>'
    ).encode()
    if old.spans:
        pieces = list(between(content, old.spans))
        return pieces[0] + element + b"".join(pieces[1:])
    about = quoteattr(old.about or "")
    parent = f'<rdf:Description xmlns:rdf="{RDF}" rdf:about={about}>'.encode() + element + b"</rdf:Description>"
    return content[: old.end] + parent + content[old.end :]


def stripped(texts: dict[str, str]) -> dict[str, str]:
    """Return texts by language without the white space around them, and without empty ones."""
    return {language: text.strip() for language, text in texts.items() if language and text.strip()}


def first(item: tuple[str, str]) -> bool:
    """Return a sort key that puts the default language first, as the specification demands."""
    return item[0] != DEFAULT


def between(content: bytes, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the parts of the content that lie outside the spans. spans: (start, end), in bytes."""
    position = 0
    for start, end in spans:
        yield content[position:start]
        position = end
    yield content[position:]
