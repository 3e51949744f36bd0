"""Images in HTML that lack an alt text, or have one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from html import unescape

from capcli.outputs.alt.ahead import Ahead
from capcli.outputs.alt.code import MASK, masked
from capcli.outputs.alt.gaps import IN_CODE, LINKED, SAID, SPACER, Gap, is_picture

# Tags and their attributes as browsers read them (WHATWG HTML §13.2.5.6 ff.): a name, and a value in three spellings.
SPACE = " \t\n\r\f"
TAG = re.compile(rf"<!--|<(?P<closing>/?)(?P<name>[A-Za-z][^{SPACE}/>]*+)|<[!?/]")
ATTRIBUTE = re.compile(
    rf"""[{SPACE}/]*+(?:(?P<end>>)|(?P<name>[^{SPACE}/>][^{SPACE}/>=]*+)"""
    rf"""(?:[{SPACE}]*+=[{SPACE}]*+(?:"(?P<double>[^"]*+)"?|'(?P<single>[^']*+)'?|(?P<bare>[^{SPACE}>"'][^{SPACE}>]*+)?))?+)"""
)
TEXT_ONLY = ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")  # a tag in them is text
# An address in srcset ends at white space, or in a comma; a descriptor, such as 2x or 640w, ends at a comma.
SRCSET = re.compile(rf"(?P<address>[^{SPACE},][^{SPACE}]*+)(?:(?<=,)|[^,]*+)")
# Where scripts find the image that replaces a placeholder.
LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy")
LAZY_SETS = ("data-srcset", "data-lazy-srcset")
NAMED_OTHERWISE = ("aria-label", "aria-labelledby", "title")
DECORATION = ("none", "presentation")
THIN = re.compile(r"\s*0*[01](?:px)?\s*")  # a width or height that shows nothing
NAMED = {ord(mark): name for mark, name in (("&", "&amp;"), ('"', "&quot;"), ("<", "&lt;"), (">", "&gt;"))}
# Attributes that frameworks turn into others: :alt, [attr.alt], ng-attr-alt, th:alt-title, v-bind, th:attr, {...rest}.
BOUND = re.compile(
    rf"[{MASK}{{}}$%]|^(?!(?:{'|'.join(NAMED_OTHERWISE)})$|data-(?!th-|ng-|v-|x-))"
    r".*(?<![a-z])(?:alt|title|aria-label(?:ledby)?)(?![a-z])"
    r"|(?:^|[-:.])(?:bind|att|attf|attrs?|attributes|attrappend|attrprepend|props)$|^:$"
)


def find_gaps(text: str, component: bool = False) -> list[Gap]:
    """Return images without an alt attribute, unless another attribute names them or marks them as decoration.

    Those with a text in it come with the doubt SAID.

    component: see `code.masked`.
    """
    shown, gaps = masked(text, component=component)
    return sorted([*gaps, *gaps_in(shown)], key=lambda gap: gap.begin)


def gaps_in(text: str) -> list[Gap]:
    """Return the gaps in a text without code."""
    ahead = Ahead(text)
    gaps: list[Gap] = []
    base: str | None = None
    sources: list[str] | None = None  # of the picture element that is open
    xml = text.lstrip(f"\ufeff{SPACE}").startswith("<?xml")
    foreign = False  # in SVG
    linked = False  # in a link, but for one to a picture, which an image stands for
    at = 0
    while tag := TAG.search(text, at):
        if not tag["name"]:
            ended = end_of_markup(text, tag, ahead, xml or foreign)
            if not ended:
                break
            at = ended.end()
            continue
        values, ended = attributes(text, tag.end())
        if not ended:  # browsers drop it
            break
        at = ended.end()
        name, closed = tag["name"].lower(), ended[0].endswith("/>") and (xml or foreign)
        if name in ("svg", "img"):  # an image closes an open <svg>
            foreign = name == "svg" and not tag["closing"] and not ended[0].endswith("/>")
        if name == "a":
            linked = not tag["closing"] and bool(values.get("href")) and not is_picture(values["href"].strip())
        if tag["closing"]:
            sources = None if name == "picture" else sources
        elif name in TEXT_ONLY and not closed:
            end = ahead(rf"(?i)</{name}(?=[{SPACE}/>])", at)
            if not end:
                break
            at = end.start()
        elif name == "plaintext":
            break
        elif name == "picture":
            sources = []
        elif name == "source" and sources is not None:
            sources += addresses_of(values.get("srcset", values.get("data-srcset", "")))
        elif name == "base" and base is None and "href" in values:
            base = values["href"].strip()
        elif name.rstrip(MASK) == "img":
            place = tag.start() + len("<img")
            shown = (*addresses(values), *(sources or ()))
            in_code = MASK in name or is_bound(values.keys() - {"alt"})
            if needs_alt(values):
                doubt = IN_CODE if in_code else LINKED if linked else SPACER if is_thin(values) else ""
                gaps.append(Gap(place, place, shown, before=' alt="', after='"', doubt=doubt))
            elif (said := values.get("alt", "")) and MASK not in said and not in_code:
                gaps.append(Gap(place, place, shown, doubt=SAID, said=said))
            sources = [] if sources else sources  # they belong to one image
    return [replace(gap, base=base) for gap in gaps] if base else gaps


def end_of_markup(text: str, opening: re.Match[str], ahead: Ahead, xml: bool) -> re.Match[str] | None:
    """Return the end of a comment, or other markup that is no element.

    xml: whether CDATA may hold tags.
    """
    if opening[0] == "<!--":
        return re.compile("-?>").match(text, opening.end()) or ahead("--!?>", opening.end())
    return ahead(r"\]\]>" if xml and text.startswith("<![CDATA[", opening.start()) else ">", opening.end())


def attributes(text: str, at: int) -> tuple[dict[str, str], re.Match[str] | None]:
    """Return a tag's attributes by lower-case name, and its end; None if it has none.

    The first of a name counts. at: the end of the tag's name.
    """
    values: dict[str, str] = {}
    while (found := ATTRIBUTE.match(text, at)) and not found["end"]:
        value = next(filter(None, found.group("double", "single", "bare")), "")
        values.setdefault(found["name"].lower(), value)
        if MASK in (found["bare"] or "").lstrip(MASK):  # the code may produce more attributes
            values[MASK] = ""
        at = found.end()
    return {name: unescaped(value) for name, value in values.items()}, found


def unescaped(value: str) -> str:
    """Return a value with character references resolved."""
    try:
        return unescape(value)
    except ValueError:  # a character's number with thousands of digits
        return value


def addresses(values: dict[str, str]) -> tuple[str, ...]:
    """Return where an image may be, the default first. values: its attributes."""
    found = [values[name].strip() for name in LAZY if name in values]
    for name in LAZY_SETS:
        found += addresses_of(values.get(name, ""))
    return tuple(filter(None, (*found, values.get("src", "").strip(), *addresses_of(values.get("srcset", "")))))


def addresses_of(srcset: str) -> list[str]:
    """Return a srcset's addresses."""
    return [found["address"].rstrip(",") for found in SRCSET.finditer(srcset)]


def needs_alt(values: dict[str, str]) -> bool:
    """Return whether an image with these attributes lacks alt text."""
    if "alt" in values:  # an empty one marks decoration
        return False
    if values.get("role", "").strip().lower() in DECORATION or values.get("aria-hidden", "").strip().lower() == "true":
        return False
    return not any(values.get(name, "").strip() for name in NAMED_OTHERWISE)


def is_thin(values: dict[str, str]) -> bool:
    """Return whether an image with these attributes is a pixel wide or high, or less."""
    return any(THIN.fullmatch(values.get(side, "")) for side in ("width", "height"))


def is_bound(names: Iterable[str]) -> bool:
    """Return whether code may name an image with attributes of these names."""
    return any(map(BOUND.search, names))


def escape(text: str) -> str:
    """Return a text for a double-quoted attribute value."""
    return text.translate({ord(mark): f"&#{ord(mark)};" for mark in "{}"} | NAMED)  # braces are code in some pages
