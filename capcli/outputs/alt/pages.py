"""Pages: HTML and Markdown files, read and changed by the byte."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.images.decode import why_unreadable
from capcli.images.find import Selection, walk
from capcli.outputs.alt import html, markdown
from capcli.outputs.alt.gaps import Gap
from capcli.outputs.originals import UntouchableError, original
from capcli.results import ImageError

HTML, MARKDOWN = (".html", ".htm", ".xhtml"), (".md", ".markdown")
CHARSET = re.compile(rb"""charset\s*=\s*["']?([\w-]+)""", re.I)
LATIN = "latin-1"  # has a character for every byte, and so gives every byte back
FILLED_IN_LATER = re.compile(r"\{[{%#]|<[%?]|\$\{")  # by template languages
LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Missing(NamedTuple):
    """Describe an image without an alt text.

    line: its line in the page, from 1 on.
    address: as the page has it.
    file: that it leads to, which may not exist.
    gap: where the text belongs.
    """

    line: int
    address: str
    file: str
    gap: Gap


@dataclass
class Page:
    """Hold a page.

    path: of its file.
    content: of the file.
    text: the same as text, from which the very bytes can be made again.
    encoding: of the text, UTF-8 or LATIN.
    missing: those of its images that lack an alt text and lie on this machine, in their order.
    """

    path: str
    content: bytes
    text: str
    encoding: str
    missing: list[Missing]

    @classmethod
    def read(cls, path: str, root: str) -> Page:
        """Return the page of a file.

        root: the folder that addresses with a slash in front begin at.

        Raises ImageError if it cannot be read.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ImageError(path, why_unreadable(error)) from None
        if b"\0" in content:
            raise ImageError(path, "not text in UTF-8 or another extension of ASCII")
        try:
            text, encoding = content.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = content.decode(LATIN), LATIN
        page = cls(path, content, text, encoding, [])
        find_gaps = markdown.find_gaps if is_markdown(path) else html.find_gaps
        for gap in find_gaps(text):
            files = [(address, file) for address in gap.addresses if (file := page.file_of(address, gap.base, root))]
            if files:
                address, file = next((each for each in files if os.path.exists(each[1])), files[0])
                page.missing.append(Missing(text.count("\n", 0, gap.begin) + 1, address, file, gap))
        return page

    def file_of(self, address: str, base: str, root: str) -> str | None:
        """Return the file that an address leads to; None for one that leads to no file of this machine.

        base: the page's own base for addresses, empty for none.
        root: as for `read`.
        """
        folder, file = os.path.dirname(self.path), ""
        for link in filter(None, (base, address)):
            try:
                parts = urlsplit(re.sub(r"[\t\n\r]", "", link).strip().replace("\\", "/"))
            except ValueError:
                return None
            if parts.scheme or parts.netloc or not parts.path or FILLED_IN_LATER.search(link):
                return None
            name = os.fsdecode(unquote_to_bytes(self.as_unicode(parts.path)))
            if "\0" in name:
                return None
            file = os.path.join(root, name.lstrip("/")) if name.startswith("/") else os.path.join(folder, name)
            folder = os.path.dirname(file)
        return os.path.normpath(file)

    def as_unicode(self, text: str) -> str:
        """Return a piece of the page's text in the characters that it stands for."""
        if self.encoding != LATIN:
            return text
        named = CHARSET.search(self.content[:1024])
        try:
            return text.encode(LATIN).decode(named[1].decode() if named else "cp1252")
        except (UnicodeError, LookupError):
            return text

    def filled(self, texts: Mapping[str, str]) -> str:
        """Return the text of the page with alt texts put in. texts: by the file of the image."""
        pieces, end = [], 0
        escape = markdown.escape if is_markdown(self.path) else html.escape
        for missing in self.missing:
            if missing.file in texts:
                gap, alt = missing.gap, escape(texts[missing.file])
                if self.encoding == LATIN:  # characters by their numbers, which both languages read
                    alt = alt.encode("ascii", "xmlcharrefreplace").decode()
                pieces += [self.text[end : gap.begin], gap.before, alt, gap.after]
                end = gap.end
        return "".join([*pieces, self.text[end:]])

    def diff(self, new: str) -> bytes:
        """Return what turns the page into a new text, as `patch -p1` and `git apply` take it."""
        name = os.path.normpath(self.path).lstrip(os.sep)
        lines = unified_diff(LINE.findall(self.text), LINE.findall(new), f"a/{name}", f"b/{name}")
        whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
        return "".join(whole).encode(self.encoding, "surrogateescape")

    def write(self, new: str, folders: Iterable[str]) -> None:
        """Put a new text in the place of the page, completely or not at all.

        folders: that the user named, which a link may lead into.

        Raises ImageError if it cannot be written, or has been changed since it was read.
        """
        try:
            target = original(self.path, folders)
            with WholeFile(target, like=target, timeout=REPLACE_TIMEOUT) as file:
                if target.read_bytes() != self.content:
                    raise ImageError(self.path, "was changed meanwhile, and is left as it is; run again")
                file.write_bytes(new.encode(self.encoding))
        except UntouchableError as error:
            raise ImageError(self.path, str(error)) from None
        except OSError as error:
            raise ImageError(self.path, why_unreadable(error)) from None


def is_markdown(path: str) -> bool:
    """Return whether a page is in Markdown, by its ending."""
    return path.lower().endswith(MARKDOWN)


def is_page(path: str) -> bool:
    """Return whether a file is a page, by its ending."""
    return path.lower().endswith(HTML + MARKDOWN)


def find_pages(
    sites: Iterable[str], selection: Selection, report: Callable[[ImageError], object]
) -> Iterator[tuple[str, str]]:
    """Yield each page and the root of its site, in natural order, files before subfolders.

    Hidden files and folders are passed over, and links to folders.

    sites: pages, whose root is the working directory, and folders, which are their pages' root.
    selection: which files in folders to take.
    report: called with each folder that cannot be listed.
    """
    for site in sites:
        if not os.path.isdir(site):
            yield site, os.curdir
            continue
        for found in walk(site, selection, wanted=is_page):
            if isinstance(found, ImageError):
                report(found)
            else:
                yield found, site
