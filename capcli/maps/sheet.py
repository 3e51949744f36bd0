"""A caption's overlays in one picture: a contact sheet, and an animation."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SHEET_WIDTH, SHEET_HEIGHT = 1200, 820  # pixels; the height is only a target
MARGIN, GAP, LABEL_HEIGHT = 28, 16, 34  # pixels
TITLE_SIZE, WORD_SIZE, SMALL_SIZE = 36, 23, 17  # pixels
PAPER, INK, PALE_INK = "#ffffff", "#16181d", "#6b7280"
GIF_SIDE, GIF_MILLISECONDS = 480, 800  # pixels; per frame


def contact_sheet(
    photo: Image.Image, overlays: Sequence[Image.Image], words: Sequence[str], log_probs: Sequence[float], title: str
) -> Image.Image:
    """Return the photo and every word's overlay as a contact sheet, 1,200 pixels wide, titled with the caption.

    photo: upright.
    overlays, words, log_probs: one per word; natural logarithms, shown as percentages.
    """
    count = len(overlays) + 1
    inner = SHEET_WIDTH - 2 * MARGIN
    shape = min(max(photo.height / photo.width, 0.25), 3.0)  # height / width of a tile; extreme photos get margins

    def tile_width(columns: int) -> int:
        return (inner - GAP * (columns - 1)) // columns

    def grid_height(columns: int) -> float:
        return -(-count // columns) * (tile_width(columns) * shape + LABEL_HEIGHT + GAP)

    # The number of columns closest to the height, with few empty tiles in the last row.
    columns = min(range(2, 9), key=lambda n: abs(grid_height(n) - SHEET_HEIGHT) + 80 * (-count % n))
    width = tile_width(columns)
    height = round(width * shape)
    lines = wrap(title, load_font(TITLE_SIZE), inner)
    top = MARGIN + round(1.3 * TITLE_SIZE) * len(lines) + GAP
    sheet_height = top + -(-count // columns) * (height + LABEL_HEIGHT + GAP) + MARGIN - GAP
    sheet = Image.new("RGB", (SHEET_WIDTH, sheet_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + round(1.3 * TITLE_SIZE) * number), line, INK, load_font(TITLE_SIZE))
    labels = [("the photo", ""), *((w, f"{math.exp(p):.0%}") for w, p in zip(words, log_probs, strict=False))]
    for number, (picture, (word, note)) in enumerate(zip([photo, *overlays], labels, strict=True)):
        left = MARGIN + number % columns * (width + GAP)
        y = top + number // columns * (height + LABEL_HEIGHT + GAP)
        scale = min(width / picture.width, height / picture.height)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        tile = picture.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(tile, (left + (width - size[0]) // 2, y + (height - size[1]) // 2))
        ink, size_of_word = (INK, WORD_SIZE) if number else (PALE_INK, SMALL_SIZE)
        write_label(draw, left, y + height + LABEL_HEIGHT - 9, width, word, note, ink, size_of_word)
    return sheet


def write_label(
    draw: ImageDraw.ImageDraw,
    left: int,
    baseline: int,
    width: int,
    word: str,
    note: str,
    ink: str = INK,
    size: int = WORD_SIZE,
) -> None:
    """Write a word below its picture, cut to the width, and a pale note at the right if there is room.

    left, baseline, width, size: in pixels.
    """
    font, small = load_font(size), load_font(SMALL_SIZE)
    if draw.textlength(word, font) + draw.textlength(note, small) > width - 8:
        note = ""
    while draw.textlength(word, font) > width and len(word) > 2:
        word = word[:-2] + "…"
    draw.text((left, baseline), word, ink, font, anchor="ls")
    draw.text((left + width, baseline), note, PALE_INK, small, anchor="rs")


def samples_sheet(samples: Sequence[tuple[Image.Image, str, Sequence[str]]]) -> Image.Image:
    """Return photos with texts beside them in two columns, 1,200 pixels wide.

    samples: of each photo the picture, upright, its name, and the texts.
    """
    column = (SHEET_WIDTH - 2 * MARGIN - GAP) // 2
    side, font, line = column * 2 // 5, load_font(SMALL_SIZE), round(1.35 * SMALL_SIZE)
    beside = column - side - GAP
    lines = [[name, *(part for text in texts for part in wrap(text, font, beside))] for _, name, texts in samples]
    heights = [max(side, line * len(several)) for several in lines]
    rows = [max(heights[i : i + 2]) for i in range(0, len(heights), 2)]
    sheet = Image.new("RGB", (SHEET_WIDTH, sum(rows) + GAP * (len(rows) - 1) + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, ((picture, _, _), several) in enumerate(zip(samples, lines, strict=True)):
        left = MARGIN + number % 2 * (column + GAP)
        top = MARGIN + sum(rows[: number // 2]) + GAP * (number // 2)
        small = picture.copy()
        small.thumbnail((side, side))
        sheet.paste(small, (left, top))
        for place, text in enumerate(several):
            draw.text((left + side + GAP, top + line * place), text, INK if place else PALE_INK, font)
    return sheet


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font, for the same sheet on every machine. size: in pixels."""
    return ImageFont.load_default(size)


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """Return text in lines of whole words, none wider than width pixels except a single long word."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def encode(image: Image.Image, ending: str = ".png") -> bytes:
    """Return a picture as PNG, or in the format of another file's ending."""
    buffer = io.BytesIO()
    kind = Image.registered_extensions()[ending.lower()]
    # Level 4 of compression takes a third of the default's time, for a few percent more bytes.
    image.save(buffer, kind, quality=85, compress_level=4)
    return buffer.getvalue()


def animate(photo: Image.Image, overlays: Sequence[Image.Image], words: Sequence[str]) -> bytes:
    """Return an endless GIF of the photo, then every word's overlay with the word below.

    photo, overlays, words: see `contact_sheet`.
    """
    scale = min(1.0, GIF_SIDE / max(photo.size))
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    frames = []
    for picture, word in zip([photo, *overlays], ["", *words], strict=True):
        frame = Image.new("RGB", (max(size[0], 160), size[1] + LABEL_HEIGHT), PAPER)
        frame.paste(picture.resize(size, Image.Resampling.LANCZOS), ((frame.width - size[0]) // 2, 0))
        middle_of_label = frame.width // 2, frame.height - 10
        ImageDraw.Draw(frame).text(middle_of_label, word, INK, load_font(WORD_SIZE), anchor="ms")
        frames.append(frame)
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=GIF_MILLISECONDS, loop=0, optimize=False
    )
    return buffer.getvalue()
