"""XMP packets: XMP specification part 1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from capcli.metadata.errors import MetadataError

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DC = "http://purl.org/dc/elements/1.1/"
LANG = "http://www.w3.org/XML/1998/namespace lang"
EMPTY_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    f'<rdf:RDF xmlns:rdf="{RDF}"></rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
).encode()


class Description:
    """Where a packet holds dc:description, and what it says in which language.

    spans: (start, end) in bytes of each such element; texts: language → text; end: where the rdf:RDF element's end tag
    begins; about: the subject that the packet's descriptions name.
    """

    def __init__(self, packet: bytes) -> None:
        self.spans: list[tuple[int, int]] = []
        self.texts: dict[str, str] = {}
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
        """XMP has no document types; they could define entities that grow without bound."""
        raise MetadataError("damaged XMP")

    def enter(self, name: str, attributes: dict[str, str]) -> None:
        """Start of an element."""
        if name == f"{RDF} Description":
            self.about = attributes.get(f"{RDF} about", self.about)
            if f"{DC} description" in attributes:
                raise MetadataError("its XMP holds the caption as an attribute; left as it is")
        elif name == f"{DC} description":
            self.start = self.parser.CurrentByteIndex
            self.language = "x-default"
        elif self.start is not None and name == f"{RDF} li":
            self.language = attributes.get(LANG, "x-default")

    def read(self, text: str) -> None:
        """Characters between elements."""
        if self.start is not None:
            self.texts[self.language] = self.texts.get(self.language, "") + text

    def leave(self, name: str) -> None:
        """End of an element."""
        if name == f"{RDF} RDF":
            self.end = self.parser.CurrentByteIndex
            if not re.compile(rb"</[^>]*RDF\s*>").match(self.packet, self.end):  # one empty tag
                raise MetadataError("an XMP block without content")
        elif name == f"{RDF} li":
            self.language = ""  # white space between the items is nobody's
        elif name == f"{DC} description" and self.start is not None:
            here = self.parser.CurrentByteIndex  # the end tag begins here, or one empty tag ended
            tag = re.compile(rb"</[^>]*description\s*>").match(self.packet, here)
            self.spans.append((self.start, tag.end() if tag else here))
            self.start = None


def read_xmp(packet: bytes) -> str:
    """The default-language dc:description, or else any; empty if there is none. Raises MetadataError."""
    texts = {k: v.strip() for k, v in Description(packet.strip(b"\0")).texts.items() if k and v.strip()}
    return texts.get("x-default") or next(iter(texts.values()), "")


def write_xmp(packet: bytes | None, text: str) -> bytes:
    """A packet with another default-language dc:description; the rest stays as it is, byte for byte."""
    packet = (packet or b"").strip(b"\0") or EMPTY_XMP
    old = Description(packet)
    texts = {k: v.strip() for k, v in old.texts.items() if k and v.strip()} | {"x-default": text}
    items = "".join(
        f"<rdf:li xml:lang={quoteattr(k)}>{escape(v)}</rdf:li>" for k, v in sorted(texts.items(), key=first)
    )
    element = (
        f'<dc:description xmlns:dc="{DC}" xmlns:rdf="{RDF}"><rdf:Alt>{items}</rdf:Alt></dc:description>'
    ).encode()
    if old.spans:
        pieces = list(between(packet, old.spans))
        return pieces[0] + element + b"".join(pieces[1:])
    about = quoteattr(old.about or "")
    parent = f'<rdf:Description xmlns:rdf="{RDF}" rdf:about={about}>'.encode() + element + b"</rdf:Description>"
    return packet[: old.end] + parent + packet[old.end :]


def first(item: tuple[str, str]) -> bool:
    """Sort key that puts the default language first, as the specification wants."""
    return item[0] != "x-default"


def between(content: bytes, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """What lies outside the spans."""
    position = 0
    for start, end in spans:
        yield content[position:start]
        position = end
    yield content[position:]
