"""Which images of HTML lack an alt text, and where it belongs."""

from __future__ import annotations

import pytest

from capcli.outputs.alt.html import addresses_of, escape, find_gaps


def filled(text: str) -> str:
    for gap in reversed(find_gaps(text)):
        text = text[: gap.begin] + gap.before + "A" + gap.after + text[gap.end :]
    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<img src="a.jpg">', '<img alt="A" src="a.jpg">'),
        ("<img src=a.jpg/>", '<img alt="A" src=a.jpg/>'),
        ("<IMG SRC=a.jpg />", '<IMG alt="A" SRC=a.jpg />'),
        ("<p>\r\n<img\r\n\tsrc='a.jpg'\r\n>", "<p>\r\n<img alt=\"A\"\r\n\tsrc='a.jpg'\r\n>"),
        ('<img/src="a.jpg"class="b">', '<img alt="A"/src="a.jpg"class="b">'),
        ('<img title="" src="a.jpg" data-alt="x">', '<img alt="A" title="" src="a.jpg" data-alt="x">'),
        ('<img class="a>b" src="a.jpg">', '<img alt="A" class="a>b" src="a.jpg">'),
        ("<pre>&lt;img><img src=a.jpg></pre>", '<pre>&lt;img><img alt="A" src=a.jpg></pre>'),
        ("<template><img src=a.jpg></template>", '<template><img alt="A" src=a.jpg></template>'),
        ("<noscript><img src=a.jpg></noscript>", '<noscript><img alt="A" src=a.jpg></noscript>'),
        ("<svg><title>a</title></svg><img src=a.jpg>", '<svg><title>a</title></svg><img alt="A" src=a.jpg>'),
        ("é\u2028\x85\x0c<img src=a.jpg>", 'é\u2028\x85\x0c<img alt="A" src=a.jpg>'),
        ("<img src=a.jpg><img src=b.jpg>", '<img alt="A" src=a.jpg><img alt="A" src=b.jpg>'),
    ],
)
def test_an_alt_text_is_put_in_and_nothing_else_changes(text: str, expected: str) -> None:
    assert filled(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        '<img src="a.jpg" alt="">',
        '<img src="a.jpg" alt>',
        '<img ALT = "mine" src="a.jpg">',
        "<img src=a.jpg alt=mine>",
        '<img src="a.jpg" role="Presentation">',
        '<img src="a.jpg" aria-hidden="true">',
        '<img src="a.jpg" aria-label="mine">',
        '<img src="a.jpg" title="mine">',
        '<!-- <img src="a.jpg"> -->',
        '<script>write("<img src=a.jpg>")</script>',
        "<style>/* <img src=a.jpg> */</style>",
        "<textarea><img src=a.jpg></textarea>",
        "<title><img src=a.jpg></title>",
        "<iframe><img src=a.jpg></iframe>",
        '<p data-html="<img src=a.jpg>">',
        "<svg><image href=a.jpg></svg>",
        "<imgs src=a.jpg>",
        "&lt;img src=a.jpg>",
        '<img src="a.jpg',
        "",
    ],
)
def test_what_has_a_text_or_is_no_image_stays(text: str) -> None:
    assert filled(text) == text


@pytest.mark.parametrize(
    ("text", "addresses", "base"),
    [
        ("<img src=' a&amp;b.jpg\n'>", ("a&b.jpg",), ""),
        ('<img src="a.jpg" srcset="b.jpg 1x, c.jpg 2x">', ("a.jpg", "b.jpg", "c.jpg"), ""),
        (
            '<picture><source srcset="b.webp 100w,c.webp"><img src=a.jpg></picture>',
            ("a.jpg", "b.webp", "c.webp"),
            "",
        ),
        ('<picture><source srcset="b.webp"></picture><img src=a.jpg>', ("a.jpg",), ""),
        ('<base href="sub/"><base href="other/"><img src=a.jpg src=b.jpg>', ("a.jpg",), "sub/"),
        ("<img>", (), ""),
    ],
)
def test_what_an_image_shows(text: str, addresses: tuple[str, ...], base: str) -> None:
    (gap,) = find_gaps(text)
    assert (gap.addresses, gap.base) == (addresses, base)


def test_addresses_of_srcset() -> None:
    assert addresses_of(" a,b.jpg 1x , c.jpg,d.jpg 2x,") == ["a,b.jpg", "c.jpg,d.jpg"]
    assert addresses_of("a.jpg, b.jpg") == ["a.jpg", "b.jpg"]
    assert addresses_of(", ,") == []


def test_a_text_is_escaped() -> None:
    assert escape('"a" < b & c') == "&quot;a&quot; &lt; b &amp; c"
