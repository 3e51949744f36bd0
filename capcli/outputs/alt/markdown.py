"""Images without an alt text in Markdown, and in the HTML inside it.

A parser of CommonMark says what is an image, and where it leads, but not at which character: so each place that could
be one gets a mark of its own before the text is parsed, and the marks tell which places are.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from capcli.outputs.alt import html
from capcli.outputs.alt.gaps import Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

MAYBE = re.compile(r"!\[(?P<alt>[ \t]*)\](?=[(\[])|<(?P<tag>img)(?=[\s/>])", re.I)
SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$])")


def find_gaps(text: str) -> list[Gap]:
    """Return the images with an empty alt text, and those of HTML that have none."""
    places = list(MAYBE.finditer(text))
    if not places:
        return []
    mark = "capcli0x"
    while mark in text:
        mark += "x"
    marked, end = [], 0
    for index, place in enumerate(places):
        at = place.end("tag") if place["tag"] else place.start("alt")
        marked += [text[end:at], f" {mark}={index} " if place["tag"] else f"{mark}{index}x"]
        end = place.end("tag") if place["tag"] else place.end("alt")
    marked.append(text[end:])

    from markdown_it import MarkdownIt

    parsed = MarkdownIt("commonmark").enable("table").parse("".join(marked))
    gaps = []
    pieces = []
    for token in flat(parsed):
        if token.type == "image" and (found := re.fullmatch(f"{mark}(\\d+)x", token.content)):
            place = places[int(found[1])]
            gaps.append(Gap(place.start("alt"), place.end("alt"), (str(token.attrs["src"]),)))
        elif token.type in ("html_block", "html_inline"):
            pieces.append(token.content)
    inside = "\n".join(pieces)
    for gap in html.find_gaps(inside):
        if found := re.compile(f" {mark}=(\\d+) ").match(inside, gap.begin):
            at = places[int(found[1])].end("tag")
            gaps.append(replace(gap, begin=at, end=at))
    return sorted(gaps, key=lambda gap: gap.begin)


def flat(tokens: list[Token]) -> Iterator[Token]:
    """Yield tokens with those inside them."""
    for token in tokens:
        yield token
        if token.type != "image":  # inside is its alt text
            yield from flat(token.children or [])


def escape(text: str) -> str:
    """Return a text as it stands in Markdown, where it says what it says."""
    return SPECIAL.sub(r"\\\1", text)
