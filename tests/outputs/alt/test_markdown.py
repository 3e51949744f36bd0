"""Which images of Markdown lack an alt text, and where it belongs."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from capcli.outputs.alt.gaps import LINKED, SAID
from capcli.outputs.alt.markdown import escape, find_gaps


def filled(text: str) -> str:
    for gap in reversed([gap for gap in find_gaps(text) if not gap.doubt]):
        text = text[: gap.begin] + gap.before + "A" + gap.after + text[gap.end :]
    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("![](a.jpg)", "![A](a.jpg)"),
        ("# Title ![ ](a.jpg 'title')\r\n", "# Title ![A](a.jpg 'title')\r\n"),
        ("[![](a.jpg)](b.jpg) [![mine](c.svg)](d)", "[![A](a.jpg)](b.jpg) [![mine](c.svg)](d)"),
        ("![][Id]\n\n[id]: <a b.jpg> 'title'\n", "![A][Id]\n\n[id]: <a b.jpg> 'title'\n"),
        ("|a|\n|-|\n|![](a.jpg)|\n", "|a|\n|-|\n|![A](a.jpg)|\n"),
        ("- a\n\n      ![](a.jpg)\n\n    ![](b.jpg)\n", "- a\n\n      ![](a.jpg)\n\n    ![A](b.jpg)\n"),
        ("> ![](a.jpg)", "> ![A](a.jpg)"),
        ("\ufeff![](a.jpg)", "\ufeff![A](a.jpg)"),
        ("*a* <img src='a.jpg' width=9>", "*a* <img alt=\"A\" src='a.jpg' width=9>"),
        ("<p>\n<IMG src=a.jpg>\n</p>", '<p>\n<IMG alt="A" src=a.jpg>\n</p>'),
        ("capcli0x ![](a.jpg) capcli0xx", "capcli0x ![A](a.jpg) capcli0xx"),
        ("![](<img/a b.jpg>) ![](<img >)", "![A](<img/a b.jpg>) ![A](<img >)"),
        ("![](a.jpg =300x200) ![](b.jpg 'c' =x20)", "![A](a.jpg =300x200) ![A](b.jpg 'c' =x20)"),
        ("![](a.jpg){width=300} ![](b.jpg){: .c}", "![A](a.jpg){width=300} ![A](b.jpg){: .c}"),
        ("# Title {#id}\n![](a(1(2)).jpg) #}", "# Title {#id}\n![A](a(1(2)).jpg) #}"),
        ("`{{` opens\n\n![](a.jpg)\n\n`}}` closes", "`{{` opens\n\n![A](a.jpg)\n\n`}}` closes"),
        ("[a [b](c) d](![](e.jpg))", "[a [b](c) d](![A](e.jpg))"),
        ("a <!--> ![](b.jpg) -->", "a <!--> ![A](b.jpg) -->"),
        ("[a] ![](b.jpg)] ![`]`](c)", "[a] ![A](b.jpg)] ![`]`](c)"),
        ("---\ntitle: a\n---\n    ![](b.jpg)\n\n![](a.jpg)", "---\ntitle: a\n---\n    ![](b.jpg)\n\n![A](a.jpg)"),
        ("![](a.jpg)![](b.jpg)\\\n![](c.jpg)", "![A](a.jpg)![A](b.jpg)\\\n![A](c.jpg)"),
    ],
)
def test_an_alt_text_is_put_in_and_nothing_else_changes(text: str, expected: str) -> None:
    assert filled(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "![mine](a.jpg)",
        "`![](a.jpg)` and ``<img src=a.jpg>``",
        "```\n![](a.jpg)\n<img src=a.jpg>\n```",
        "~~~~md\n![](a.jpg)\n~~~\n![](a.jpg)\n~~~~",
        "a\n\n    ![](a.jpg)\n    <img src=a.jpg>\n",
        "\\![](a.jpg) !\\[](a.jpg)",
        "![][nowhere]",
        "![](a b.jpg)",
        "![](my photo (1).jpg 'title')",
        "![[a.jpg]] ![[a.jpg|300]] ![[a note]]",
        '![](a.jpg){alt="mine"} ![](a.jpg){: alt=mine } ![](a.jpg){aria-hidden=true}',
        "<![CDATA[ ![](a.jpg)](b.jpg)",
        "![mine ![](a.jpg)](b.jpg) ![mine <img src=a.jpg>](b.jpg)",
        "[a](b '![](a.jpg)') [a](<![](a.jpg)>) [a](![](a.jpg)) <p title='![](a.jpg)'>",
        "<Foo x={\"<img src='a.jpg'>\"}/>",
        "{% set x = \"<img src='a.jpg'> ![](a.jpg)\" %} {{ '![](a.jpg)' }}",
        "---\nlead: \"<img src='a.jpg'>\"\n---\n",
        "![id][] ![id]\n\n[id]: a.jpg",
        "[](a.jpg)",
        "<!--\n![](a.jpg)\n\n<img src=a.jpg>\n-->",
        '<img src=a.jpg alt=""> <img src=a.jpg alt="mine">',
        '[a]: <img.jpg> "<img src=a.jpg>"',
        "",
    ],
)
def test_what_has_a_text_or_is_no_image_stays(text: str) -> None:
    assert filled(text) == text


def test_what_an_image_shows() -> None:
    (gap,) = find_gaps("![](<a b%25é&amp;.jpg>)")
    assert gap.addresses == ("a%20b%25%C3%A9&.jpg",)
    assert [gap.addresses for gap in find_gaps("![][a]\n<img srcset='c.jpg 2x'>\n\n[a]: b.jpg")] == [
        ("b.jpg",),
        ("c.jpg",),
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("![](my photo (1).jpg)", "my photo (1).jpg"),
        ('![ ](img/my photo.PNG "title")', "img/my photo.PNG"),
        ("![[a b.jpg]]", "a b.jpg"),
        ("![[a.jpg|300x200]]", "a.jpg"),
    ],
)
def test_what_others_take_for_an_image_is_not_passed_over(text: str, address: str) -> None:
    (gap,) = find_gaps(f"![mine](b c.jpg) {text} ![[a.jpg|mine]] ![[a note]] ![](a note)")
    assert gap.addresses == (address,)
    assert gap.doubt


def test_a_text_says_what_it_says() -> None:
    said = "a [cat]_*#!`|<b>&amp; \\"
    (image,) = MarkdownIt("commonmark").parse(f"![{escape(said)}](a.jpg)")[1].children or ()
    assert "".join(child.content for child in image.children or ()) == said


def test_an_image_in_a_link_is_left_but_for_a_link_to_a_picture() -> None:
    text = "[![](a.jpg)](b.html) <a href=c>![](a.jpg)</a> <a href=c><img src=a.jpg></a> <a href=c.jpg>![](a.jpg)</a>"
    assert [gap.doubt for gap in find_gaps(text)] == [LINKED] * 3 + [""]


def test_texts_that_are_there_come_with_their_places() -> None:
    text = "![A \\*photo*](a.jpg) `![no](a.jpg)` [![*b*][c]](d) ![c]\n\n<img alt='e &amp; f' src=g.jpg>\n\n[c]: <h.jpg>"
    said = [(gap.said, gap.addresses, gap.doubt) for gap in find_gaps(text)]
    assert said == [
        *(("A *photo*", ("a.jpg",), SAID), ("*b*", ("h.jpg",), SAID)),
        ("e & f", ("g.jpg",), SAID),
    ]
