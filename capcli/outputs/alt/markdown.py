"""Images in Markdown, and in its HTML, that lack an alt text or have one.

A CommonMark parser tells paragraphs, headings and cells, but not where in the page their characters are: so each
possible image is marked before parsing. Paragraphs are read here, as the parser's time grows with the square of their
length.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

from capcli.outputs.alt import html
from capcli.outputs.alt.ahead import Ahead
from capcli.outputs.alt.code import MASK, masked
from capcli.outputs.alt.gaps import LINKED, SAID, Gap, is_picture

MAYBE = re.compile(
    r"!\[(?P<alt>[ \t]*+|[^\[\]\n]{1,300}+)\](?=[(\[])"
    rf"|!\[\[(?P<embedded>[^\[\]|\n]+)(?=[|\]])|<(?P<tag>img)(?=[\s/>{MASK}])",
    re.I,
)
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")
SPACES = "Markdown takes a name with spaces only as ![](<a b.jpg>) or with %20"
EMBEDDED = "programs differ in where its alt text belongs, as in ![[a.jpg|text]]"
CELLS = 10  # per character of the text: more are no table, as all rows have the first one's number

# CommonMark 0.31 §6, but that a tag may hold code. Nothing here is tried twice (++, *+), or time would grow with the
# square of the length.
OPEN_TAG = (
    rf"<[A-Za-z][A-Za-z0-9{MASK}-]*+"
    rf"(?:\s++[A-Za-z_:{MASK}][\w.:{MASK}-]*+(?:\s*+=\s*+(?:[^\s\"'=<>`]++|'[^']*+'|\"[^\"]*+\"))?+)*+\s*+/?>"
)
INLINE = re.compile(
    r"\\[!-/:-@\[-`{-~]|(?P<ticks>`++)|(?P<opening>!?\[)|(?P<closing>\])"
    rf"|(?P<tag>{OPEN_TAG}|</[A-Za-z][A-Za-z0-9-]*+\s*+>)"
    r"|<[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*+>"
    r"|<!---?>|(?P<verbatim><!--|<\?|<!\[CDATA\[|<![A-Za-z])"
)
VERBATIM = {"<!--": "-->", "<?": r"\?>", "<![CDATA[": r"\]\]>"}
ADDRESS = r"[^\s()\\]++|\\[()\\]?+"
BALANCED = rf"(?:{ADDRESS})*+"
for _ in range(4):  # parentheses in parentheses
    BALANCED = rf"(?:{ADDRESS}|\({BALANCED}\))*+"
TITLE = r"""\s++(?:"(?:[^"\\]|\\.)*+"|'(?:[^'\\]|\\.)*+'|\((?:[^()\\]|\\.)*+\))"""
SIZE = r"\s++=(?:[0-9]++%?(?:x(?:[0-9]++%?)?+)?+|x[0-9]++%?)"  # =300x200, as many programs take it
TARGET = re.compile(
    rf"\(\s*+(?:<(?P<pointed>(?:[^<>\n\\]|\\.)*+)>|(?!<)(?P<bare>{BALANCED}))(?:{SIZE})?+(?:{TITLE})?+(?:{SIZE})?+\s*+\)",
    re.S,
)
REFERENCE = re.compile(r"\[(?P<label>(?:[^\[\]\\]|\\.){0,999}+)\]", re.S)
SPACED = re.compile(r"\((?P<name>(?:[^()<>\"\n]++|\([^()<>\"\n]*+\))++)(?:\"[^\"\n]*+\"[ \t]*+)?\)")
ATTRIBUTES = re.compile(r"\s?\{:?(?P<them>[^{}\n]*+)\}")  # {alt="…"}, as kramdown, Pandoc and others take it


ANCHOR = re.compile(r"</?a(?=[\s>])", re.I)


class Bracket(NamedTuple):
    """Describe an open bracket.

    begin: where its content begins.
    image: whether an exclamation mark precedes it.
    found, pieces: images and pieces of HTML found before it.
    """

    begin: int
    image: bool
    found: int
    pieces: int


def find_gaps(text: str) -> list[Gap]:
    """Return images with an empty alt text, and those of HTML without one; those with a text with the doubt SAID."""
    shown, gaps = masked(text, prose=True)
    places = list(MAYBE.finditer(shown))
    if not places:
        return gaps
    mark = "capcli0x" + max(re.findall("capcli0(x*)", text), key=len, default="")
    marked, end = [], 0
    for index, place in enumerate(places):
        at = place.end("tag") if place["tag"] else max(place.start("alt"), place.start("embedded"))
        marked += [shown[end:at], f"{mark}{index}x"]  # letters, which mean nothing in Markdown
        end = at if (place["alt"] or "").strip() else max(at, place.end("alt"))
    reader = Reader(mark)
    reader.read("".join([*marked, shown[end:]]))
    for index, address, doubt, said in reader.found:
        place = places[index]
        begin, end = place.span("alt") if place["alt"] is not None else place.span("embedded")
        gaps.append(Gap(begin, end, (address,), doubt=doubt, said=said))
    inside, starts = reader.inside()
    for gap in html.gaps_in(inside):
        if gap.begin in starts:
            at = places[starts[gap.begin]].end("tag")
            gaps.append(replace(gap, begin=at, end=at))
    return sorted(gaps, key=lambda gap: gap.begin)


class Reader:
    """Read a text with marks.

    found: (mark, address, why no text may be put in, or "", alt text) of images.
    """

    def __init__(self, mark: str) -> None:
        """Begin. mark: the beginning of all marks."""
        from markdown_it import MarkdownIt

        self.parser = MarkdownIt("commonmark")
        self.parser.core.ruler.enableOnly(["normalize", "block"])
        self.mark = re.compile(f"{mark}(?P<index>[0-9]+)x")
        self.found: list[tuple[int, str, str, str]] = []
        self.pieces: list[str] = []  # of HTML
        self.references: dict[str, str] = {}  # where they lead

    def read(self, text: str) -> None:
        lines = text.split("\n")
        if max(line.count("|") for line in lines) * len(lines) < CELLS * len(text):
            self.parser.enable("table")
        environment: dict[str, Any] = {}
        tokens = self.parser.parse(text, environment)
        for name, reference in environment.get("references", {}).items():
            self.references[name] = self.mark.sub("", reference["href"]).replace("%EF%B7%90", MASK)
        for token in tokens:
            if token.type == "inline":
                self.read_inline(token.content)
            elif token.type == "html_block":
                self.pieces.append(token.content)

    def inside(self) -> tuple[str, dict[int, int]]:
        """Return the HTML without marks, and the mark at each position."""
        marked = "\n".join(self.pieces)
        pieces, starts, end, removed = [], {}, 0, 0
        for found in self.mark.finditer(marked):
            pieces.append(marked[end : found.start()])
            starts[found.start() - removed] = int(found["index"])
            end = found.end()
            removed += end - found.start()
        return "".join([*pieces, marked[end:]]), starts

    def read_inline(self, text: str) -> None:
        """Read a paragraph, or another block of inline text."""
        ahead = Ahead(text)
        last_ticks = {len(ticks[0]): ticks.start() for ticks in re.finditer("`+", text)}
        brackets: list[Bracket] = []
        anchor = 0, ""  # how many images precede <a>, and where it leads
        no_links = 0  # this many open brackets hold a link, and so are none
        at, innermost = 0, -1
        while piece := INLINE.search(text, at):
            at = piece.end()
            if piece["ticks"]:
                if last_ticks.get(len(piece[0]), -1) > piece.start():
                    at = next(t.end() for t in re.compile("`+").finditer(text, at) if len(t[0]) == len(piece[0]))
            elif piece["tag"]:
                self.pieces.append(piece[0])
                if tag := ANCHOR.match(piece[0]):
                    self.link(*anchor)
                    anchor = len(self.found), html.attributes(piece[0], tag.end())[0].get("href", "")
            elif piece["verbatim"]:
                closing = ahead(VERBATIM.get(piece[0], ">"), at)
                at = closing.end() if closing else piece.start() + 1
            elif piece["opening"]:
                innermost = at
                brackets.append(Bracket(at, piece[0] == "![", len(self.found), len(self.pieces)))
            elif piece["closing"] and brackets:
                bracket = brackets.pop()
                if bracket.image or len(brackets) >= no_links:
                    label = text[bracket.begin : piece.start()] if bracket.begin == innermost else ""
                    end = self.close(text, at, bracket, label, brackets)
                    if end and not bracket.image:
                        no_links = len(brackets)
                    at = end or at
                no_links = min(no_links, len(brackets))

    def close(self, text: str, at: int, bracket: Bracket, label: str, outer: list[Bracket]) -> int | None:
        """Treat a closed bracket as a link or image, and return its end; None if it is neither.

        at: after the bracket.
        label: its content; empty if that has brackets.
        outer: the open brackets around it.
        """
        mark = self.mark.match(label)
        said = label[mark.end() :] if mark and bracket.image else ""
        empty = bracket.image and mark is not None and not said
        label = said or label
        target = TARGET.match(text, at)
        address, end = "", at
        if target:
            address, end = self.plain(target["pointed"] or target["bare"] or ""), target.end()
        elif (reference := REFERENCE.match(text, at)) and (known := self.known(reference["label"] or label)):
            address, end = known, reference.end()
        elif not reference and not empty and (known := self.known(label)):
            address = known
        else:
            if mark and empty and (spaced := SPACED.match(text, at)):
                name = self.mark.sub("", spaced["name"].strip())
                if is_picture(name):
                    self.found.append((int(mark["index"]), name, SPACES, ""))
            elif (
                mark and outer and outer[-1].image and outer[-1].begin == bracket.begin - 1 and text[at : at + 1] == "]"
            ):
                embedded, _, more = self.mark.sub("", label).partition("|")
                if is_picture(embedded.strip()) and re.fullmatch(r"\s*(?:[0-9]+(?:x[0-9]+)?)?\s*", more):
                    self.found.append((int(mark["index"]), embedded.strip(), EMBEDDED, ""))
            return None
        if bracket.image:
            del self.found[bracket.found :], self.pieces[bracket.pieces :]  # what is in it is its alt text
        else:
            self.link(bracket.found, address)
        if mark and empty and not self.is_named(text, end):
            self.found.append((int(mark["index"]), address, "", ""))
        elif mark and said and MASK not in said:
            from markdown_it.common.utils import unescapeAll

            self.found.append((int(mark["index"]), address, SAID, unescapeAll(said)))
        return end

    def link(self, first: int, address: str) -> None:
        """Note that images are in a link, unless it leads to a picture. first: of those in it."""
        if address and not is_picture(address):
            self.found[first:] = [(*image[:2], image[2] or LINKED, image[3]) for image in self.found[first:]]

    def known(self, label: str) -> str | None:
        """Return a reference's address, or None."""
        from markdown_it.common.utils import normalizeReference

        return self.references.get(normalizeReference(label)) if label and self.references else None

    def plain(self, address: str) -> str:
        """Return an address without escapes."""
        from markdown_it.common.utils import unescapeAll

        address = self.mark.sub("", unescapeAll(address))
        return address if MASK in address else self.parser.normalizeLink(address)

    def is_named(self, text: str, at: int) -> bool:
        """Return whether attributes after an image name it, or mark it as decoration."""
        if not (found := ATTRIBUTES.match(text, at)):
            return False
        values, _ = html.attributes(f"{found['them']}>", 0)
        return not html.needs_alt(values) or html.is_bound(values)


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\1", text)
