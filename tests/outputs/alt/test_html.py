"""Which images of HTML lack an alt text, and where it belongs."""

from __future__ import annotations

import pytest

from capcli.outputs.alt.gaps import IN_CODE, LINKED, SAID, SPACER
from capcli.outputs.alt.html import addresses_of, escape, find_gaps

ALT = '<img alt="A"'


def filled(text: str) -> str:
    for gap in reversed([gap for gap in find_gaps(text) if not gap.doubt]):
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
        ("<svg><style/><title/></svg><img src=a.jpg>", '<svg><style/><title/></svg><img alt="A" src=a.jpg>'),
        ("<?xml?><script src=a /><img src=a.jpg />", '<?xml?><script src=a /><img alt="A" src=a.jpg />'),
        ("<!--><img src=a.jpg>", '<!--><img alt="A" src=a.jpg>'),
        ("<script>a={'{{'}</script><img src=a.jpg>}}", "<script>a={'{{'}</script><img alt=\"A\" src=a.jpg>}}"),
        ("<p>{{ is not closed<img src=a.jpg>", '<p>{{ is not closed<img alt="A" src=a.jpg>'),
        ("<img src='a.jpg' width={{ a }} title={b}>", "<img src='a.jpg' width={{ a }} title={b}>"),
        ("<img src='a.jpg' width={{ a }} style={b}>", "<img alt=\"A\" src='a.jpg' width={{ a }} style={b}>"),
        ("<img src='a.jpg' alt={b}>", "<img src='a.jpg' alt={b}>"),
        ('<img src="a.jpg" class="{{ "a" }}">', '<img alt="A" src="a.jpg" class="{{ "a" }}">'),
        ("{{ a }}<img src=a.jpg @click='b' data-title=c>", "{{ a }}<img alt=\"A\" src=a.jpg @click='b' data-title=c>"),
        ("<?php echo 1; // don't ?><img src=a.jpg>", '<?php echo 1; // don\'t ?><img alt="A" src=a.jpg>'),
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
        '<p title="<img src=a.jpg>',
        "<textarea/><img src=a.jpg></textarea>",
        "",
    ],
)
def test_what_has_a_text_or_is_no_image_stays(text: str) -> None:
    assert filled(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "{% set x = \"<img src='a.jpg'>\" %}",
        "{{ \"<img src='a.jpg'>\"|safe }}",
        "{{ \"}} <img src='a.jpg'>\" }}",
        "{{ {'a': {'b': \"<img src='a.jpg'>\"}} }}",
        "<%= \"%> <img src='a.jpg'>\" %>",
        "<?php if ($a > 1) echo \"<img src='a.jpg'>\";",
        "<?= $a->b ?><?php echo '<img src=\"a.jpg\">' ?>",
        "<Foo x={\"<img src='a.jpg'>\"}/>",
        "${a ? \"<img src='a.jpg'>\" : ''}",
        "{# <img src='a.jpg'> #}",
        "{{!-- }} <img src='a.jpg'> --}}",
        "{% comment %}<img src='a.jpg'>{% endcomment %}",
        "{% highlight html %}<img src='a.jpg'>{% endhighlight %}",
        "---\nlead: \"<img src='a.jpg'>\"\n---\n",
        "+++\r\nlead = \"<img src='a.jpg'>\"\r\n+++\r\n",
        "<img src=a.jpg {% if t %}alt='{{ t }}'{% endif %}>",
        "<img src=a.jpg {{ attrs }}>",
        "<img src=a.jpg<?= $attrs ?>>",
        "<img<%= attrs %> src=a.jpg>",
        "<img src=a.jpg {...rest}>",
        "<img src={a} {alt}>",
        *(
            f"<img src=a.jpg {name}='mine'>"
            for name in (
                ":alt v-bind:alt x-bind:alt bind-alt bind:alt :alt.camel [alt] [attr.alt] ng-attr-alt th:alt "
                "th:alt-title data-th-alt t-att-alt .alt :title :aria-label v-bind x-bind data-bind th:attr "
                "tal:attributes py:attrs :"
            ).split()
        ),
    ],
)
def test_what_code_may_describe_is_counted_and_stays(text: str) -> None:
    assert filled(text) == text
    assert [gap.doubt for gap in find_gaps(text)] == [IN_CODE]
    image = "<img src=b.jpg>"  # and what is around it is read as ever
    assert filled(f"{text if text[0] in '-+' else image + text}\n{'?>' * text.endswith(';')}{image}").endswith(
        ALT + " src=b.jpg>"
    )


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
        ('<video><source srcset="b.webp"></video><img src=a.jpg>', ("a.jpg",), ""),
        ("<img src=data:image/gif;base64,AA data-src=a.jpg>", ("a.jpg", "data:image/gif;base64,AA"), ""),
        ("<img src=grey.gif data-srcset='a.jpg 2x' data-original=b.jpg>", ("b.jpg", "a.jpg", "grey.gif"), ""),
        (f"<img src='&#{'9' * 5000};'>", (f"&#{'9' * 5000};",), ""),
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
    assert addresses_of("a.jpg,,b.jpg 2x 3w,") == ["a.jpg,,b.jpg"]


def test_a_text_is_escaped() -> None:
    assert escape('"a" < b & c') == "&quot;a&quot; &lt; b &amp; c"


def test_images_in_links_and_spacers_are_left() -> None:
    text = (
        "<a href=b.html><img src=a.jpg></a><img src=a.jpg><a href='b.jpg?x=1'><img src=a.jpg></a><a><img src=a.jpg></a>"
        "<img src=a.gif width=1 height=01px><img src=a.gif width=10>"
    )
    assert [gap.doubt for gap in find_gaps(text)] == [LINKED, "", "", "", SPACER, ""]


def test_texts_that_are_there_are_read_but_those_from_code() -> None:
    text = "<img alt='a &amp; b' src=c.jpg><img alt=''><img alt='{{ d }}'><img alt=e :alt=f><img alt><!--<img alt=g>-->"
    assert [(gap.said, gap.addresses, gap.doubt) for gap in find_gaps(text)] == [("a & b", ("c.jpg",), SAID)]


@pytest.mark.parametrize(
    ("text", "doubts"),
    [
        ("---\nconst a = \"<img src='a.jpg'>\";\n---\n<img src='a.jpg'>", [IN_CODE, ""]),  # Astro
        ("{#if a}<img src='a.jpg'>{:else}<p>{'<img>'}</p>{/if}", ["", IN_CODE]),  # Svelte
        (
            '{a && "}" /* don\'t } */ && `${"<img>"}` && <img>}<img {src}><img src=\'a.jpg\'>',
            [IN_CODE, IN_CODE, IN_CODE, ""],
        ),
        ("<script>let a = {</script><img src=a.jpg>", [""]),
        ("<p>{ is never closed <img src=a.jpg>", [IN_CODE]),
    ],
)
def test_every_brace_of_a_component_is_code(text: str, doubts: list[str]) -> None:
    assert [gap.doubt for gap in find_gaps(text, component=True)] == doubts


def test_braces_in_a_text_are_no_code() -> None:
    assert escape("a {b}") == "a &#123;b&#125;"
