"""What is common to HTML and Markdown: a place in a text where an alt text is missing."""

from __future__ import annotations

from dataclasses import dataclass

IN_CODE = "code in the page may give it an alt text"


@dataclass(frozen=True)
class Gap:
    """Describe an image without an alt text.

    begin, end: what the alt text takes the place of, as positions in the text; equal where it is only put in.
    addresses: of the image, as HTML or Markdown spell them but for percents; the one that is shown by default first.
    base: the page's own base for relative addresses, or empty.
    before, after: what stands around the alt text.
    doubt: why no alt text may be put in, or empty; IN_CODE where nobody knows whether one is missing.
    """

    begin: int
    end: int
    addresses: tuple[str, ...] = ()
    base: str = ""
    before: str = ""
    after: str = ""
    doubt: str = ""
