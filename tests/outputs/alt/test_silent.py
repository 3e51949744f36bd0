"""Alt texts that say nothing, and those that say little but something."""

from __future__ import annotations

import pytest

from capcli.outputs.alt.silent import Heard, why_silent


@pytest.mark.parametrize(
    ("text", "address", "why"),
    [
        ("IMG_2041.jpg", "x.jpg", 'its alt text is the name of a file: "IMG_2041.jpg"'),
        ("img_2041", "x.jpg", 'its alt text is the name of a file: "img_2041"'),
        ("my photo.PNG", "x.jpg", 'its alt text is the name of a file: "my photo.PNG"'),
        (
            "Sunset-over-lake",
            "/a/sunset-over-lake.webp?w=300",
            'its alt text is the name of a file: "Sunset-over-lake"',
        ),
        ("image", "x.jpg", 'its alt text says nothing: "image"'),
        (" A photo of… ", "x.jpg", 'its alt text says nothing: "A photo of…"'),
        ("Bild 3", "", 'its alt text says nothing: "Bild 3"'),
        ("...", "", 'its alt text says nothing: "..."'),
        ("  ", "", "its alt text is only white space"),
    ],
)
def test_what_says_nothing(text: str, address: str, why: str) -> None:
    assert why_silent(text, address) == why


@pytest.mark.parametrize(
    ("text", "address"),
    [
        *(("Paris", "paris.jpg"), ("logo of Acme", "logo.png"), ("Figure skating", ""), ("Photographer at work", "")),
        *(("The dialog for a.jpg", ""), ("5", "five.png"), ("🎉", ""), ("Photo of a cat", ""), ("P51 in flight", "")),
        ("Image processing pipeline", "image.png"),
    ],
)
def test_what_says_something(text: str, address: str) -> None:
    assert why_silent(text, address) == ""


def test_a_caption_of_two_images_says_nothing_of_the_second() -> None:
    heard = Heard()
    assert heard.why_silent("A cat on a sofa", "a.jpg", 3) == ""
    assert heard.why_silent("A cat on a sofa", "a.jpg", 4) == ""  # the same image once more
    assert heard.why_silent("a cat  on a sofa", "b.jpg", 5) == (
        'its alt text is that of another image, in line 3: "a cat  on a sofa"'
    )
    assert [heard.why_silent("Acme Ltd", address, 6) for address in ("c.jpg", "d.jpg")] == ["", ""]
