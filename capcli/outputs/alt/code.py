"""Code of template languages in pages, and front matter: not HTML yet.

The languages look alike, and a page's own is unknown. So more may count as code than is; nothing in it is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from capcli.outputs.alt.ahead import Ahead
from capcli.outputs.alt.gaps import IN_CODE, Gap

MASK = "\ufdd0"  # a noncharacter, which no text should have
FRONT_MATTER = re.compile(r"(?P<fence>---|\+\+\+|;;;)[ \t]*\r?\n(?:[^\n]*\n)*?(?:(?P=fence)|\.\.\.)[ \t]*(?=\r?\n|\Z)")
OPENING = re.compile(
    r"(?P<script><(?:script|style)(?=[\s/>]))"
    r"|\{%[-+]?\s*+(?P<shown>comment|highlight|codeblock|code)\b"
    r"|(?P<note>\{\{!--|\{\{--|\{\{!|\{\{/\*|\{#(?![\w:.-]*+\})|<%--|<%#)"  # {#id} is a heading's name
    r"|(?P<code>\{%|<%|<\?(?=php\b|=|\s|\Z))"
    r"|(?P<braces>\{\{|[=$#@]\{)",
    re.I,
)
# Of Svelte and Astro: every brace opens code.
COMPONENT = re.compile(r"(?P<script><(?:script|style)(?=[\s/>]))|(?P<brace>\{)", re.I)
NOTES = {"{{!--": "--}}", "{{--": "--}}", "{{!": "}}", "{{/*": "}}", "{#": "#}", "<%--": "--%>", "<%#": "%>"}
STRING = r"""\\.|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'|`(?:[^`\\]|\\.)*+`"""
REMARK = r"/\*(?:[^*]|\*(?!/))*+(?:\*/)?+|(?://|\#)(?:(?!{})[^\n])*+"
BRACES = re.compile(rf"{STRING}|[{{}}]")
BRACES_AND_REMARKS = re.compile(rf"{STRING}|/\*(?:[^*]|\*(?!/))*+(?:\*/)?+|[{{}}]")
CODE = {
    "{%": ("%}", re.compile(rf"{STRING}|\{{%|%\}}")),
    "<%": ("%>", re.compile(rf"{STRING}|{REMARK.format('%>')}|<%|%>")),
    "<?": ("?>", re.compile(rf"{STRING}|{REMARK.format(r'[?]>')}|<\?|\?>")),
}
DEPTH = 20  # of braces; bounds the cost of each that is never closed
PARAGRAPH_END = r"\n[ \t\r]*\n"
IMAGE = re.compile(r"<img(?=[\s/>])(?![^<>]*\balt\b)|!\[[ \t]*\](?=\()", re.I)


def masked(text: str, prose: bool = False, component: bool = False) -> tuple[str, list[Gap]]:
    """Return a text of the same length and lines with MASK for code, front matter blanked, and the images in the code.

    prose: whether braces still open at a paragraph's end are text, as in an article on templates.
    component: whether all braces are code, as in Svelte and Astro: one never closed makes code of all that follows.
    """
    begin = text.startswith("\ufeff")
    pieces, gaps, done = [], [], 0
    front = FRONT_MATTER.match(text, begin)
    found = component_spans if component else partial(spans, prose=prose)
    for start, end in found(text, front.end() if front else 0):
        pieces += [text[done:start], re.sub(r"[^\r\n]", MASK, text[start:end])]
        gaps += [Gap(image.start(), image.start(), doubt=IN_CODE) for image in IMAGE.finditer(text, start, end)]
        done = end
    shown = "".join([*pieces, text[done:]])
    if front:
        shown = text[:begin] + re.sub(r"[^\r\n]", " ", front[0]) + shown[front.end() :]
        gaps += [Gap(image.start(), image.start(), doubt=IN_CODE) for image in IMAGE.finditer(text, 0, front.end())]
    return shown, gaps


def component_spans(text: str, at: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of braces from position `at` on, but for scripts."""
    ahead = Ahead(text)
    while opening := COMPONENT.search(text, at):
        at = opening.end()
        if opening["script"]:
            script = ahead("(?i)</(?:script|style)", at)
            at = script.start() if script else at
        else:
            at = end_of_braces(text, opening.start(), len(text), BRACES_AND_REMARKS) or len(text)
            yield opening.start(), at


def spans(text: str, at: int, prose: bool) -> Iterator[tuple[int, int]]:
    """Yield the ranges of code from position `at` on."""
    ahead = Ahead(text)
    script_end = 0
    while opening := OPENING.search(text, at):
        start, at = opening.start(), opening.end()
        end = None
        if opening["script"]:
            script = ahead("(?i)</(?:script|style)", at)
            script_end = script.start() if script else script_end
            continue
        if opening["shown"]:  # up to its end is code to show, or nothing
            closing = ahead(rf"(?i)\{{%[-+]?\s*+end{opening['shown'].lower()}\s*+[-+]?%\}}", at)
            end = closing.end() if closing else end_of_code(text, start, "{%", ahead)
        elif opening["note"]:
            closing = ahead(re.escape(NOTES[opening["note"]]), at)
            end = closing.end() if closing else None
        elif opening["code"]:
            end = end_of_code(text, start, opening["code"], ahead)
        elif start >= script_end:  # scripts have braces of their own
            paragraph = ahead(PARAGRAPH_END, at) if prose else None
            limit = paragraph.start() if paragraph else len(text)
            start = text.index("{", start)
            end = end_of_braces(text, start, limit)
            if not end and opening[0] == "{{" and (closing := ahead(r"\}\}", at)) and closing.end() <= limit:
                end = closing.end()
        if end:
            yield start, end
            at = end
        else:
            at = start + 1


def end_of_code(text: str, start: int, opening: str, ahead: Ahead) -> int | None:
    """Return where code ends, or None.

    A closing mark in a string does not count, unless there is no other: then all up to the last may be code.
    """
    closing, pieces = CODE[opening]
    first = ahead(re.escape(closing), start + 2)
    if not first:
        return len(text) if opening == "<?" else None
    looked = len(text)
    for piece in pieces.finditer(text, start + 2):
        if piece[0] == closing:
            return piece.end()
        if piece[0] == opening:
            looked = piece.start()
            break
    return max(first.start(), text.rfind(closing, start + 2, looked)) + 2


def end_of_braces(text: str, start: int, limit: int, pieces: re.Pattern[str] = BRACES) -> int | None:
    """Return where the braces open at `start` end; None if not before the limit. pieces: what is read as one."""
    depth = 0
    for piece in pieces.finditer(text, start, limit):
        if piece[0] == "{":
            depth += 1
            if depth > DEPTH:
                return None
        elif piece[0] == "}":
            depth -= 1
            if not depth:
                return piece.end()
    return None
