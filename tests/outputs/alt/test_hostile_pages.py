"""Pages that are damaged or mean harm: time that grows with their length and no more, and nothing changed but alts.

pytest -m long tests/outputs/alt/test_hostile_pages.py runs 10,000 damaged pages of each language instead of 400.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from markdown_it import MarkdownIt

from capcli.outputs.alt import html, markdown
from capcli.outputs.alt.gaps import Gap
from capcli.outputs.alt.pages import Page

if TYPE_CHECKING:
    from playwright.sync_api import Page as BrowserPage

Finder = Callable[[str], list[Gap]]
HOSTILE = {
    "commas in srcset": lambda n: f"<img srcset='{',' * n}'>",
    "spaces in srcset": lambda n: f"<img srcset='{' ' * n}'>",
    "addresses in srcset": lambda n: f"<img srcset='{'a ,' * n}'>",
    "open tags": lambda n: "<a" * n,
    "open attributes": lambda n: "<a b=" * n,
    "unclosed quotes": lambda n: "<img src=\"a ' " * n,
    "quotes in quotes": lambda n: "<a b=\"<a b='\" c='" * n,
    "sources": lambda n: "<picture>" + "<source srcset=a.jpg>" * n + "<img src=a.jpg>" * n,
    "comments": lambda n: "<!--" * n,
    "scripts": lambda n: "<script>" * n + "<title>" * n,
    "spaces in a tag": lambda n: "<img" + " " * n + "a" + " " * n,
    "references": lambda n: f"<img src='&#{'9' * n};'>" + "&" * n,
    "a long name": lambda n: f"<img {'alt-' * n}>",
    "brackets": lambda n: "[" * n + "]" * n,
    "open images": lambda n: "![" * n,
    "empty images": lambda n: "![](" * n + "![][" * n,
    "images in images": lambda n: "![a " * n + "](b)" * n,
    "marks": lambda n: "*a_ **b__ " * n,
    "stars": lambda n: "*" * n + "a" + "_" * n,
    "ticks": lambda n: " ".join("`" * size for size in range(int((2 * n) ** 0.5))),
    "escapes": lambda n: "\\" * n + "![](" + "\\(" * n,
    "parentheses": lambda n: "[a](" + "(" * n + "[a](b (" * n,
    "titles": lambda n: "[a](b \"c [a](b 'c " * n,
    "names with spaces": lambda n: "![](a b (" * n + "![](" + "a " * n,
    "definitions": lambda n: "[a]: b\n" * n,
    "quotations": lambda n: "> " * n + "\n" + "> a\nb\n" * n,
    "lists": lambda n: "- " * n + "\n" + "- a\n\n  - b\n" * (n // 9),
    "fences": lambda n: "```\n~~~\n" * n,
    "tables": lambda n: "|a" * n + "\n" + "|-" * n + "\n" + "|a\n" * n,
    "our own mark": lambda n: "![](a) capcli0x" + "x" * n + " capcli0x" * n,
    "braces": lambda n: "={" * n + "{{" * n + "}" * n,
    "strings in braces": lambda n: "{{ ' }} ' " * n,
    "strings in code": lambda n: "{% ' %} ' " * n + '<% " %> " ' * n,
    "texts of images": lambda n: "![a" * n + "![a](b)" * n + "<a href=b>![](c)" * n + "[" * n + "![](d)](e)" * n,
    "remarks in braces": lambda n: "{ /* } */ " * n + "{ /* " * n,
    "open strings in braces": lambda n: "{ a ` ' " * n,
    "remarks in code": lambda n: "<?php /* ?>" * n + "<%/*%>" * n,
    "code in code": lambda n: "<%/*" * n + '*/ ""' * n + "<% %>",
    "code to show": lambda n: "{% highlight %}" * n + "{#" * n + "{{!" * n,
    "front matter": lambda n: "---\n" + "a\n" * n,
}
SNIPPETS = (
    *(
        "<img src=a.jpg>",
        '<img src="a.jpg">',
        '<img src="a.jpg" alt="mine">',
        "<img src='a.jpg' ",
        "<img",
        ">",
        '"',
        "'",
    ),
    *(
        "=",
        "/>",
        '<p title="',
        "<p data-x='",
        "<!-- ",
        "-->",
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "</",
        "<",
    ),
    *("<picture>", "</picture>", '<source srcset="b.jpg">', "<!doctype html>", "<b>", "<a href=x/", "text", "\n", " "),
    *("<img srcset='a.jpg 2x, b.jpg'>", "<IMG SRC=a.jpg TITLE=x>", "<img src=a.jpg role=none>", "&lt;img src=a>", "é"),
    *("<iframe>", "</iframe>", "<textarea>", "</textarea>", "<title>", "</title>", "<template>", "</template>"),
)
CODE = (
    *("{{ '<img src=a.jpg>' }}", "{% set x = \"<img src='a.jpg'>\" %}", "<?php echo '<img src=\"a.jpg\">' // don't ?>"),
    *(
        "<%= \"<img src='a.jpg'>\" %>",
        "<Foo x={\"<img src='a.jpg'>\"}/>",
        "<img src=a.jpg {{ rest }}>",
        "{# <img src=a.jpg> #}",
    ),
    *("<img src=a.jpg {% if t %}alt='{{ t }}'{% endif %}>", "<img src=a.jpg {...rest}>", "<img src=a.jpg :alt='mine'>"),
    "{% highlight html %}<img src=a.jpg>![](a.jpg){% endhighlight %}",
)
PROSE = (
    *(
        "![](a.jpg)",
        "![](a.jpg)",
        "![mine](a.jpg)",
        "![][a]",
        '![ ](<a b.jpg> "t")',
        "[![](a.jpg)](b)",
        "![x ![](a.jpg)](b)",
    ),
    *(
        '[x](b "![](a.jpg)")',
        "[x](![](a.jpg))",
        "[a]",
        "[x][a]",
        "[",
        "](",
        "]",
        "`",
        "``",
        "```\n",
        "~~~\n",
        "\\",
        '">',
    ),
    *('<p title="', "<div>\n", "</div>\n", "<!-- ", "-->", "<!--\n", "- ", "  ", "    ", "\t", "> ", "1. ", "# ", "\n"),
    *("\n\n", "|", "|a|b|\n|-|-|\n", "*", "_", "&amp;", "<b>", "text ", "<http://a>", "<?x ", "?>", "<![CDATA[", "]]>"),
    *(
        "(",
        ")",
        '"',
        "'",
        "\n[a]: a.jpg\n",
        '\n\n[a]: a.jpg "t"\n\n',
        "[b]: <c",
        "===\n",
        "<img\n src=a.jpg\n>",
        "!",
        "![]",
    ),
    *(
        "<img src=a.jpg>",
        '<img src="a.jpg" alt="mine">',
        "<script>",
        "</script>",
        "![](<img/a b.jpg>)",
        "<x y='",
        "\r\n",
    ),
)
ALT = "capcli&words"  # which neither language changes but for the ampersand


PAGES = {
    "base": lambda n: f"<base href='{'a' * 20 * n}'>" + "<img src=a.jpg>" * n,
    "definition": lambda n: f"[a]: {'a' * 20 * n}\n\n" + "![][a]" * n,
    "addresses": lambda n: f"<img srcset='{'a ,' * n}'>",
    "percents": lambda n: f"<img src='{'%41' * n}'>" * 2,
    "folders": lambda n: f"<img src='{'é/' * n}'>" + "<img src='é/é'>" * n,
    "lines": lambda n: "<img src=a.jpg>\n" * n,
}


def seconds(finder: Callable[[str], object], text: str) -> float:
    """Processor time, the less of two times."""
    times = []
    for _ in range(2):
        begin = time.process_time()
        finder(text)
        times.append(time.process_time() - begin)
        if times[-1] > 1:  # nothing disturbs that much
            break
    return min(times)


@pytest.mark.parametrize(
    "finder",
    [html.find_gaps, partial(html.find_gaps, component=True), markdown.find_gaps],
    ids=["html", "component", "markdown"],
)
@pytest.mark.parametrize("kind", HOSTILE)
def test_time_grows_with_the_length(kind: str, finder: Finder) -> None:
    grows_with_length(HOSTILE[kind], finder)


@pytest.mark.parametrize("kind", PAGES)
def test_time_of_a_whole_page_does(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"

    def read(text: str) -> None:
        path.write_text(text, "utf-8")
        page = Page.read(str(path), str(tmp_path))
        page.diff(page.filled({missing.file: ALT for missing in page.missing}))

    grows_with_length(PAGES[kind], read)


def grows_with_length(make: Callable[[int], str], finder: Callable[[str], object]) -> None:
    """Fail for a time that grows faster than the length of what is read."""
    size = 2000
    least = seconds(finder, make(size))
    while least < 0.01 and size < 16_000:  # shorter times say nothing
        size *= 2
        least = seconds(finder, make(size))
    longer = seconds(finder, make(4 * size))  # twice as long, and twice again: 4 times as much, or 16 by the square
    assert longer < 9 * max(least, 0.01), f"{least} s for {size}, {longer} s for four times that"


def damaged(rng: random.Random, snippets: tuple[str, ...]) -> str:
    """A page of such pieces, with characters left out, doubled or exchanged."""
    text = "".join(rng.choice(snippets) for _ in range(rng.choice((3, 6, 12, 25))))
    for _ in range(rng.choice((0, 0, 1, 3))):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(("", text[at : at + 4], rng.choice(snippets)[:3])) + text[at + rng.randrange(3) :]
    return text


def filled(finder: Finder, text: str) -> str:
    """The page with alt texts."""
    gaps = [gap for gap in finder(text) if not gap.doubt]
    after, end = [], 0
    for gap in gaps:
        assert end <= gap.begin
        assert text[: gap.begin].lower().endswith("<img") or (text[gap.begin - 2 : gap.begin], text[gap.end]) == (
            "![",
            "]",
        )
        assert not text[gap.begin : gap.end].strip(" \t")
        after += [text[end : gap.begin], gap.before, ALT, gap.after]
        end = gap.end
    page = "".join([*after, text[end:]])
    assert not [gap for gap in finder(page) if not gap.doubt]  # nothing is left to do
    return page


COUNTS = pytest.mark.parametrize(
    "count", [400, pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])]
)


@COUNTS
def test_nothing_but_alts_changes_in_markdown(count: int) -> None:
    """As a parser of all of CommonMark sees it."""
    parser = MarkdownIt("commonmark").enable("table")
    changed = 0
    for seed in range(count):
        before = damaged(random.Random(seed), PROSE)
        after = filled(markdown.find_gaps, before)
        changed += after != before
        as_before, expected = (
            re.sub(rf' alt="(?:[ \t]*|{ALT}|{html.escape(ALT)})"', "", parser.render(text)) for text in (after, before)
        )
        assert as_before == expected, f"seed {seed}"
    assert count / 5 < changed < count * 4 / 5


@pytest.mark.parametrize("finder", [html.find_gaps, markdown.find_gaps], ids=["html", "markdown"])
@COUNTS
def test_code_stays(finder: Finder, count: int) -> None:
    """Whatever stands around it, in which nothing is open that would end in it."""
    around = (
        "<p>",
        "</p>",
        "text ",
        "\n",
        "<img src=a.jpg>",
        "<b title='x'>",
        "<!-- a -->",
        "a > b ",
        "it's ",
        "{ ",
        "%}",
        "?>",
    )
    for seed in range(count):
        rng = random.Random(seed)
        pieces = [rng.choice(rng.choice((around, CODE))) for _ in range(12)]
        before = "".join(pieces)
        after = filled(finder, before)
        for piece in CODE:
            assert after.count(piece) == before.count(piece), f"seed {seed}"


@COUNTS
def test_nothing_but_alts_changes_in_html(page: BrowserPage, count: int) -> None:
    """As a browser sees it: its own tree is as before, without those alts."""
    changed = 0
    for begin in range(0, count, 200):
        pages = []
        for seed in range(begin, begin + 200):
            before = damaged(random.Random(seed), SNIPPETS)
            after = filled(html.find_gaps, before)
            changed += after != before
            pages.append([before, after, after.count(ALT)])
        same = page.evaluate(
            """([pages, alt]) => pages.map(([before, after, count]) => {
                const [old, now] = [before, after].map(text => new DOMParser().parseFromString(text, "text/html"));
                const clear = root => root.querySelectorAll("*").forEach(element => {
                    if (element.localName === "img" && element.getAttribute("alt") === alt) {
                        element.removeAttribute("alt");
                        count--;
                    }
                    if (element.content) clear(element.content);
                });
                clear(now);
                return count === 0 && old.documentElement.outerHTML === now.documentElement.outerHTML;
            })""",
            [pages, ALT],
        )
        assert all(same), f"seed {begin + same.index(False)}"
    assert count / 5 < changed < count * 4 / 5
