"""Captions and their heat in the terminal: two pixels per character, in 24-bit colour."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

from PIL import Image

from capcli.maps.overlay import draw_overlay, heatmaps
from capcli.maps.photo import photo_of
from capcli.outputs.sink import Sink
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.maps.overlay import OverlayOptions
    from capcli.results import Caption

TILE_COLUMNS, TILE_ROWS, GAP = 26, 14, 2  # characters
PHOTO_SIDE = 400  # pixels, more than a tile has
TRUE_COLOR_TERMS = ("direct", "kitty", "ghostty", "alacritty", "wezterm", "foot", "contour")
RESET = "\x1b[0m"


def why_no_pictures(file: TextIO, environment: Mapping[str, str] = os.environ) -> str | None:
    """Say why no pictures can be drawn on standard output or another file; None if they can.

    file: to write them to.
    environment: variables in which terminals say what they can do.
    """
    if not file.isatty():
        return "the output is not a terminal"
    if environment.get("NO_COLOR"):
        return "NO_COLOR is set"
    if (file.encoding or "").lower().replace("-", "") != "utf8":
        return "the terminal's encoding is not UTF-8"
    term = environment.get("TERM", "")
    true_color = environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "WT_SESSION" in environment
    if not true_color and not any(name in term for name in TRUE_COLOR_TERMS):
        return "the terminal does not announce 24-bit colour (COLORTERM=truecolor)"
    return None


def half_blocks(image: Image.Image) -> list[str]:
    """Return a picture as lines of ▀, one for every two rows of pixels.

    A character's colour is the upper pixel's, its background the lower one's.
    """
    pixels = image.convert("RGB").load()
    assert pixels is not None
    lines = []
    for y in range(0, image.height, 2):
        line, last = "", None
        for x in range(image.width):
            upper, lower = pixels[x, y], pixels[x, y + 1] if y + 1 < image.height else None
            if (upper, lower) != last:
                behind = "\x1b[49m" if lower is None else "\x1b[48;2;{};{};{}m".format(*lower)  # type: ignore[misc]
                line += "\x1b[38;2;{};{};{}m".format(*upper) + behind  # type: ignore[misc]
                last = upper, lower
            line += "▀"
        lines.append(line + RESET)
    return lines


def draw_caption(caption: Caption, options: OverlayOptions, columns: int) -> Iterator[str]:
    """Yield lines that show the photo, then every word's heat, as many side by side as fit.

    caption: with attention.
    columns: the terminal's width, in characters.

    Raises ImageError if the image is no longer readable.
    """
    width = min(TILE_COLUMNS, columns)
    photo = photo_of(caption, PHOTO_SIDE)
    scale = min(width / photo.width, 2 * TILE_ROWS / photo.height)
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    heats = heatmaps(caption.best, options.scale)
    tiles = [(small, "")]
    tiles += [
        (draw_overlay(small, heat, caption.cell_offset, options.style, options.smooth), word)
        for heat, word in zip(heats, caption.words, strict=True)
    ]
    across = max(1, (columns + GAP) // (width + GAP))
    for begin in range(0, len(tiles), across):
        row = tiles[begin : begin + across]
        pad = " " * (width - small.width + GAP)
        for line in zip(*(half_blocks(picture) for picture, _ in row), strict=True):
            yield pad.join(line)
        yield (" " * GAP).join(f"{fit(word, width):{width}}" for _, word in row).rstrip()


def fit(word: str, width: int) -> str:
    """Cut a word to at most width characters."""
    return word if len(word) <= width else word[: width - 1] + "…"


class TerminalPictures(Sink):
    """Draw each caption's heat below it."""

    path = "standard output"  # for messages
    photo_side = PHOTO_SIDE

    def __init__(self, file: TextIO, options: OverlayOptions) -> None:
        """Set where and how to draw.

        file: a terminal that shows pictures, see `why_no_pictures`.
        """
        self.file, self.options = file, options

    def write(self, result: Caption | ImageError) -> None:
        """Draw a caption's heat, and nothing for a failure. Raises ImageError if the image is no longer readable."""
        if not isinstance(result, ImageError):
            columns = shutil.get_terminal_size().columns
            self.file.write("\n".join([*draw_caption(result, self.options, columns), "", ""]))
            self.file.flush()
