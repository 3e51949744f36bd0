"""A place for an alt text in HTML or Markdown: one that is missing, or the text that is there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from capcli.images.find import is_image

IN_CODE = "code in the page may give it an alt text"
LINKED = "it is in a link, where an alt text says what the link leads to"
SPACER = 'it only fills space, for which alt="" is right'
SAID = "it has an alt text"


@dataclass(frozen=True)
class Gap:
    """Describe an image without alt text, or with one that is not empty.

    begin, end: positions in the text that the alt text replaces; equal where it is inserted.
    addresses: of the image, as HTML or Markdown spell them but for percents; the default one first.
    base: the page's own base for relative addresses, or empty.
    before, after: go around the alt text.
    doubt: why no alt text may be put in, or empty; IN_CODE if nobody knows whether one is missing.
    said: the alt text that is there; then the doubt is SAID.
    """

    begin: int
    end: int
    addresses: tuple[str, ...] = ()
    base: str = ""
    before: str = ""
    after: str = ""
    doubt: str = ""
    said: str = ""


def is_picture(address: str) -> bool:
    """Return whether an address ends as a picture's does."""
    path = re.split("[?#]", address, maxsplit=1)[0]
    return is_image(path) or path.lower().endswith(".svg")
