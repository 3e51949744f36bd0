"""A missing alt text's place in HTML or Markdown."""

from __future__ import annotations

from dataclasses import dataclass

IN_CODE = "code in the page may give it an alt text"


@dataclass(frozen=True)
class Gap:
    """Describe an image without alt text.

    begin, end: positions in the text that the alt text replaces; equal where it is inserted.
    addresses: of the image, as HTML or Markdown spell them but for percents; the default one first.
    base: the page's own base for relative addresses, or empty.
    before, after: go around the alt text.
    doubt: why no alt text may be put in, or empty; IN_CODE if nobody knows whether one is missing.
    """

    begin: int
    end: int
    addresses: tuple[str, ...] = ()
    base: str = ""
    before: str = ""
    after: str = ""
    doubt: str = ""
