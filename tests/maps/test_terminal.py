import io
import re
from pathlib import Path

import numpy as np
import pytest
from fakes import Terminal
from PIL import Image

from capcli.maps.overlay import OverlayOptions
from capcli.maps.terminal import TerminalPictures, draw_caption, fit, half_blocks, why_no_pictures
from capcli.results import AttentionMap, Candidate, Caption, ImageError

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def caption(tmp_path: Path) -> Caption:
    Image.new("RGB", (80, 60), (110, 110, 110)).save(tmp_path / "x.png")
    words = ("a", "antidisestablishmentarianism", "cat")
    attention = np.zeros((3, 2, 2))
    attention[:, 0, 1] = 1
    candidate = Candidate(" ".join(words), words, (-1.0,) * 4, -4.0, -1.0, AttentionMap(attention, None, 0.0))
    return Caption(str(tmp_path / "x.png"), (candidate,))


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"COLORTERM": "truecolor"}, None),
        ({"COLORTERM": "24bit", "TERM": "xterm"}, None),
        ({"TERM": "xterm-kitty"}, None),
        ({"TERM": "xterm-256color"}, "24-bit colour"),
        ({"TERM": "dumb"}, "24-bit colour"),
        ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, "NO_COLOR"),
    ],
)
def test_only_able_terminals_get_pictures(environment: dict[str, str], reason: str | None) -> None:
    found = why_no_pictures(Terminal(), environment)
    assert found is None if reason is None else reason in str(found)


def test_pipes_and_other_encodings_get_none() -> None:
    assert "not a terminal" in str(why_no_pictures(io.StringIO(), {"COLORTERM": "truecolor"}))
    latin = Terminal()
    latin.encoding = "iso-8859-1"
    assert "UTF-8" in str(why_no_pictures(latin, {"COLORTERM": "truecolor"}))


def test_two_rows_of_pixels_make_a_line() -> None:
    image = Image.new("RGB", (3, 3), (255, 0, 0))
    image.paste((0, 0, 255), (0, 1, 3, 2))
    first, second = half_blocks(image)
    assert first == "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀▀▀\x1b[0m"
    assert second == "\x1b[38;2;255;0;0m\x1b[49m▀▀▀\x1b[0m"  # nothing behind an odd last row


@pytest.mark.parametrize("columns", [10, 60, 200])
def test_tiles_fill_the_width_and_name_their_words(caption: Caption, columns: int) -> None:
    lines = [ESCAPE.sub("", line) for line in draw_caption(caption, OverlayOptions(), columns)]
    assert max(map(len, lines)) <= columns
    labels = " ".join(line for line in lines if "▀" not in line).split()
    assert labels == ["a", fit("antidisestablishmentarianism", min(columns, 26)), "cat"]
    blocks = sum(line.count("▀") for line in lines)
    width = min(columns, 26)
    assert blocks == 4 * width * -(-round(width * 60 / 80) // 2)


def test_heat_lies_in_its_corner(caption: Caption) -> None:
    lines = list(draw_caption(caption, OverlayOptions(), 54))  # the photo and one word side by side
    red = [int(value) for value in re.findall(r"38;2;(\d+);", lines[0])]
    assert red[0] == 110
    assert red[-1] > 150
    assert red.index(red[-1]) == len(red) - 1
    bottom = next(line for line in reversed(lines[:10]) if "▀" in line)
    assert set(re.findall(r"38;2;(\d+);", bottom)) == {"110"}


def test_captions_are_drawn_and_failures_are_not(caption: Caption) -> None:
    file = Terminal()
    pictures = TerminalPictures(file, OverlayOptions())
    pictures.write(ImageError("x", "y"))
    assert file.getvalue() == ""
    pictures.write(caption)
    assert "▀" in file.getvalue()
    assert file.getvalue().endswith("\n\n")
