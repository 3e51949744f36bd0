"""Pages: HTML and Markdown files, read and changed by the byte."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote_to_bytes, urlsplit

from PIL import Image

from capcli.files import REPLACE_TIMEOUT, WholeFile
from capcli.images.decode import open_file, why_unreadable
from capcli.images.find import Selection, walk
from capcli.outputs.alt import html, markdown
from capcli.outputs.alt.code import MASK
from capcli.outputs.alt.gaps import IN_CODE, SAID, SPACER, Gap
from capcli.outputs.alt.silent import Heard
from capcli.outputs.originals import UntouchableError, original
from capcli.results import ImageError

HTML, MARKDOWN = (".html", ".htm", ".xhtml", ".njk", ".php", ".vue"), (".md", ".markdown")
COMPONENT = (".astro", ".svelte")  # HTML in which all braces are code
UNREAD = (".mdx", ".rst", ".adoc", ".asciidoc")  # whose images are found by running code, or by other rules
LARGEST = 100_000_000  # bytes of a page
LONGEST = 12_288  # characters of an address: systems' longest path, 4,096 bytes, all percent-encoded
SPACERS = frozenset(("spacer", "blank", "pixel", "transparent", "shim", "1x1"))
FEW = 4096  # bytes; an image a pixel wide or high rarely has more
CONTEXT = 3  # lines around each change in a diff
CHARSET = re.compile(rb"""charset\s*=\s*["']?([\w-]+)""", re.I)
LATIN = "latin-1"  # has a character for every byte
FILLED_IN_LATER = re.compile(rf"\{{[{{%#]|<[%?]|\$\{{|{MASK}")  # by template languages
LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Missing(NamedTuple):
    """Describe an image without alt text.

    line: in the page, from 1 on.
    file: at the address; need not exist.
    """

    line: int
    address: str
    file: str
    gap: Gap


@dataclass
class Page:
    """Hold a page.

    text: its content as text, which gives back the same bytes.
    encoding: UTF-8 or LATIN.
    missing: images on this machine without alt text, in order.
    silent: (line, address, why) of images whose alt text says nothing.
    in_code: lines of images that may lack one, as code in the page decides.
    """

    path: str
    content: bytes
    text: str
    encoding: str
    missing: list[Missing] = field(default_factory=list)
    silent: list[tuple[int, str, str]] = field(default_factory=list)
    in_code: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, path: str, root: str) -> Page:
        """Return a file's page.

        root: folder that addresses beginning with a slash start from.

        Raises ImageError if it cannot be read.
        """
        try:
            with open_file(path) as opened:
                content = opened.read(LARGEST + 1)
        except OSError as error:
            raise ImageError(path, why_unreadable(error)) from None
        if len(content) > LARGEST:
            raise ImageError(path, f"more than the limit of {LARGEST // 1_000_000} MB for a page")
        if b"\0" in content:
            raise ImageError(path, "not text in UTF-8 or another extension of ASCII")
        try:
            text, encoding = content.decode(), "utf-8"
        except UnicodeDecodeError:
            text, encoding = content.decode(LATIN), LATIN
        page = cls(path, content, text, encoding)
        component = path.lower().endswith(COMPONENT)
        gaps = markdown.find_gaps(text) if is_markdown(path) else html.find_gaps(text, component)
        heard = Heard()
        line, counted = 1, 0
        for gap in gaps:
            line, counted = line + text.count("\n", counted, gap.begin), gap.begin
            if gap.doubt == SAID:
                shown = re.sub(f"{MASK}+", "…", next(iter(gap.addresses), ""))
                if why := heard.why_silent(gap.said, shown, line):
                    page.silent.append((line, shown, why))
                continue
            files = [(address, file) for address in gap.addresses if (file := page.file_of(address, gap.base, root))]
            if gap.doubt == IN_CODE:
                page.in_code += [line] * (bool(files) or not gap.addresses)
            elif files:
                address, file = next((each for each in files if os.path.exists(each[1])), files[0])
                if not gap.doubt and is_spacer(file):
                    gap = replace(gap, doubt=SPACER)
                page.missing.append(Missing(line, address, file, gap))
        return page

    def file_of(self, address: str, base: str, root: str) -> str | None:
        """Return the file at an address; None if it is not on this machine.

        base: the page's own base for addresses, or empty.
        root: as for `read`.
        """
        folder, file = os.path.dirname(self.path), ""
        for link in filter(None, (base, address)):
            if len(link) > LONGEST:
                return None
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
        return as_on_disk(os.path.normpath(file))

    def as_unicode(self, text: str) -> str:
        """Return a piece of the page's text in the page's real encoding."""
        if self.encoding != LATIN:
            return text
        named = CHARSET.search(self.content[:1024])
        try:
            return text.encode(LATIN).decode(named[1].decode() if named else "cp1252")
        except (UnicodeError, LookupError):
            return text

    def filled(self, texts: Mapping[str, str]) -> str:
        """Return the page's text with alt texts. texts: by the image's file."""
        pieces, end = [], 0
        escape = markdown.escape if is_markdown(self.path) else html.escape
        for missing in self.missing:
            if missing.file in texts and not missing.gap.doubt:
                gap, alt = missing.gap, escape(" ".join(texts[missing.file].split()))
                if self.encoding == LATIN:  # character references, which both languages read
                    alt = alt.encode("ascii", "xmlcharrefreplace").decode()
                pieces += [self.text[end : gap.begin], gap.before, alt, gap.after]
                end = gap.end
        return "".join([*pieces, self.text[end:]])

    def diff(self, new: str) -> bytes:
        """Return the change to a new text, for `patch -p1` and `git apply`."""
        name = os.path.normpath(self.path).lstrip(os.sep)
        old_lines, new_lines = LINE.findall(self.text), LINE.findall(new)  # equally many: no alt text has a line end
        hunks: list[list[int]] = []  # of the lines that differ
        for index, pair in enumerate(zip(old_lines, new_lines, strict=True)):
            if pair[0] != pair[1]:
                if not hunks or index - hunks[-1][-1] > 2 * CONTEXT:
                    hunks.append([])
                hunks[-1].append(index)
        lines = [f"--- a/{name}\n", f"+++ b/{name}\n"] if hunks else []
        for hunk in hunks:
            begin, end = max(0, hunk[0] - CONTEXT), min(len(old_lines), hunk[-1] + CONTEXT + 1)
            place = f"{begin + 1},{end - begin}"
            lines.append(f"@@ -{place} +{place} @@\n")
            for differ, indices in groupby(range(begin, end), lambda index: old_lines[index] != new_lines[index]):
                these = list(indices)
                lines += [f"{'-' if differ else ' '}{old_lines[index]}" for index in these]
                lines += [f"+{new_lines[index]}" for index in these if differ]
        whole = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
        return "".join(whole).encode(self.encoding, "surrogateescape")

    def write(self, new: str, folders: Iterable[str]) -> None:
        """Replace the page by a new text, whole or not at all.

        folders: links into these are followed.

        Raises ImageError if it cannot be written, or has changed since it was read.
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


def as_on_disk(file: str) -> str:
    """Return a path as the disk spells it: é may be one character there, and e with an accent in the page."""
    if file.isascii() or os.path.lexists(file):
        return file
    done = ""
    for part in Path(file).parts:
        spellings = (os.path.join(done, each) for each in (part, normalize("NFC", part), normalize("NFD", part)))
        if not (found := next(filter(os.path.lexists, spellings), "")):
            return file
        done = found
    return done


def is_spacer(file: str) -> bool:
    """Return whether an image is there to fill space, by its name, or as it is a pixel wide or high."""
    if os.path.splitext(os.path.basename(file))[0].lower() in SPACERS:
        return True
    try:
        if os.path.getsize(file) > FEW:
            return False
        with open_file(file) as opened, Image.open(opened) as image:
            return min(image.size) <= 1
    except Exception:  # whatever is wrong with it is said when it is captioned
        return False


def is_markdown(path: str) -> bool:
    """Return whether a page has Markdown's ending."""
    return path.lower().endswith(MARKDOWN)


def is_page(path: str) -> bool:
    """Return whether a file has a page's ending."""
    return path.lower().endswith(HTML + COMPONENT + MARKDOWN)


def has_pages(folder: str) -> bool:
    """Return whether a folder has pages, or may have: part of it cannot be listed."""
    return next(walk(folder, wanted=is_page), None) is not None


def find_pages(
    sites: Iterable[str],
    selection: Selection,
    report: Callable[[ImageError], object],
    skip: Callable[[str], object],
) -> Iterator[tuple[str, str]]:
    """Yield each page with its site's root, in natural order, files before subfolders.

    Hidden files and folders, and links to folders, are passed over.

    sites: pages, whose root is the working directory, and folders, their pages' root.
    report: called for each unlistable folder.
    skip: called with each file in a language that is not read.
    """
    for site in sites:
        if not os.path.isdir(site):
            yield site, os.curdir
            continue
        for found in walk(site, selection, wanted=lambda name: is_page(name) or name.lower().endswith(UNREAD)):
            if isinstance(found, ImageError):
                report(found)
            elif not is_page(found):
                skip(found)
            else:
                yield found, site
