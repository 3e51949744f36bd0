"""The contact sheet of a caption's overlays, and its animation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SHEET_WIDTH, SHEET_HEIGHT = 1200, 820  # pixels; the height is what the layout aims at
MARGIN, GAP, LABEL = 28, 16, 34
TITLE_SIZE, WORD_SIZE, SMALL_SIZE = 36, 23, 17
PAPER, INK, PALE_INK = "#ffffff", "#16181d", "#6b7280"
GIF_SIDE, GIF_MILLISECONDS = 480, 800


def contact_sheet(
    photo: Image.Image, overlays: Sequence[Image.Image], words: Sequence[str], log_probs: Sequence[float], title: str
) -> Image.Image:
    """The photo and all words in reading order under the caption, 1,200 pixels wide."""
    count = len(overlays) + 1
    inner = SHEET_WIDTH - 2 * MARGIN
    shape = min(max(photo.height / photo.width, 0.25), 3.0)  # of a tile; pictures beyond are centred in theirs

    def tile_width(columns: int) -> int:
        return (inner - GAP * (columns - 1)) // columns

    def grid_height(columns: int) -> float:
        return -(-count // columns) * (tile_width(columns) * shape + LABEL + GAP)

    # As near to the height as possible, with few empty places in the last row.
    columns = min(range(2, 9), key=lambda n: abs(grid_height(n) - SHEET_HEIGHT) + 80 * (-count % n))
    width = tile_width(columns)
    height = round(width * shape)
    lines = wrap(title, load_font(TITLE_SIZE), inner)
    top = MARGIN + round(1.3 * TITLE_SIZE) * len(lines) + GAP
    sheet = Image.new("RGB", (SHEET_WIDTH, top + -(-count // columns) * (height + LABEL + GAP) + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + round(1.3 * TITLE_SIZE) * number), line, INK, load_font(TITLE_SIZE))
    labels = [("the photo", ""), *((w, f"{math.exp(p):.0%}") for w, p in zip(words, log_probs, strict=False))]
    for number, (picture, (word, note)) in enumerate(zip([photo, *overlays], labels, strict=True)):
        left = MARGIN + number % columns * (width + GAP)
        y = top + number // columns * (height + LABEL + GAP)
        scale = min(width / picture.width, height / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        tile = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(tile, (left + (width - size[0]) // 2, y + (height - size[1]) // 2))
        baseline = y + height + LABEL - 9
        ink, font = (INK, load_font(WORD_SIZE)) if number else (PALE_INK, load_font(SMALL_SIZE))
        if draw.textlength(word, font) + draw.textlength(note, load_font(SMALL_SIZE)) > width - 8:
            note = ""
        while draw.textlength(word, font) > width and len(word) > 2:
            word = word[:-2] + "…"
        draw.text((left, baseline), word, ink, font, anchor="ls")
        draw.text((left + width, baseline), note, PALE_INK, load_font(SMALL_SIZE), anchor="rs")
    return sheet


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, so that every machine draws the same sheet."""
    return ImageFont.load_default(size)


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Lines of whole words no wider than width pixels, where a word allows it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def encode(image: Image.Image) -> bytes:
    """A picture as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)  # a third of the default's time, a few percent larger
    return buffer.getvalue()


def animate(photo: Image.Image, overlays: Sequence[Image.Image], words: Sequence[str]) -> bytes:
    """The photo and then its words, one frame each with the word below, as a GIF that repeats."""
    scale = min(1.0, GIF_SIDE / max(photo.size))
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    frames = []
    for picture, word in zip([photo, *overlays], ["", *words], strict=True):
        frame = Image.new("RGB", (max(size[0], 160), size[1] + LABEL), PAPER)
        frame.paste(picture.resize(size, Image.Resampling.LANCZOS), ((frame.width - size[0]) // 2, 0))
        place = frame.width // 2, frame.height - 10
        ImageDraw.Draw(frame).text(place, word, INK, load_font(WORD_SIZE), anchor="ms")
        frames.append(frame)
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=GIF_MILLISECONDS, loop=0, optimize=False
    )
    return buffer.getvalue()
