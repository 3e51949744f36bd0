"""Images without an alt text in HTML."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

from capcli.outputs.alt.gaps import Gap

# An attribute as browsers read it (WHATWG HTML §13.2.5.32 ff.): its name, and its value in three spellings.
SPACE = " \t\n\r\f"
ATTRIBUTE = re.compile(
    rf"""[{SPACE}/]*(?P<name>[^{SPACE}/>][^{SPACE}/>=]*)"""
    rf"""(?:[{SPACE}]*=[{SPACE}]*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^{SPACE}>"'][^{SPACE}>]*)?))?"""
)
# An address in srcset ends at white space, or in a comma; what follows it, as 2x or 640w, ends at a comma.
SRCSET = re.compile(rf"[{SPACE},]*([^{SPACE}]*[^{SPACE},])(?:,|[{SPACE}][^,]*,?|$)")
NAMED_OTHERWISE = ("aria-label", "aria-labelledby", "title")
DECORATION = ("none", "presentation")


class Finder(HTMLParser):
    """Collect the gaps of a text; the parser passes over comments, scripts and what else holds no elements."""

    # The base class knows the first two or four; in the others, too, a tag is only text to a browser.
    CDATA_CONTENT_ELEMENTS = ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")  # type: ignore[misc]

    def __init__(self, text: str) -> None:
        """Read a text."""
        super().__init__(convert_charrefs=False)
        self.gaps: list[Gap] = []
        self.base: str | None = None
        self.sources: list[str] = []  # of the picture element that is open
        self.lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        """Look at an element. attrs: not used, as the values are needed as browsers read them."""
        if tag not in ("img", "picture", "source", "base"):
            return
        values = attributes(self.get_starttag_text() or "")
        if tag == "picture":
            self.sources = []
        elif tag == "source":
            self.sources += addresses_of(values.get("srcset", ""))
        elif tag == "base" and self.base is None and "href" in values:
            self.base = values["href"].strip()
        elif tag == "img" and needs_alt(values):
            line, column = self.getpos()
            place = self.lines[line - 1] + column + len("<img")
            addresses = [values.get("src", "").strip(), *addresses_of(values.get("srcset", "")), *self.sources]
            self.gaps.append(Gap(place, place, tuple(filter(None, addresses)), before=' alt="', after='"'))

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a picture element."""
        if tag == "picture":
            self.sources = []


def find_gaps(text: str) -> list[Gap]:
    """Return the images without an alt attribute.

    Left out are those that are named by another attribute, or that are marked as decoration.
    """
    finder = Finder(text)
    return [Gap(g.begin, g.end, g.addresses, finder.base or "", g.before, g.after) for g in finder.gaps]


def attributes(tag: str) -> dict[str, str]:
    """Return the attributes of a start tag by their names in lower case; of several of one name, the first counts."""
    found: dict[str, str] = {}
    for match in ATTRIBUTE.finditer(tag, re.match(rf"<[^{SPACE}/>]*", tag).end()):  # type: ignore[union-attr]
        value = next(filter(None, match.group("double", "single", "bare")), "")
        found.setdefault(match["name"].lower(), unescape(value))
    return found


def addresses_of(srcset: str) -> list[str]:
    """Return the addresses in the value of a srcset attribute."""
    return [match[1] for match in SRCSET.finditer(srcset)]


def needs_alt(values: dict[str, str]) -> bool:
    """Return whether an image lacks an alt text. values: its attributes."""
    if "alt" in values:  # an empty one says that the image is decoration
        return False
    if values.get("role", "").strip().lower() in DECORATION or values.get("aria-hidden", "").strip().lower() == "true":
        return False
    return not any(values.get(name, "").strip() for name in NAMED_OTHERWISE)


def escape(text: str) -> str:
    """Return a text as it stands in an attribute's value, between double quotes."""
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
