"""Captions of one photo by several checkpoints, side by side: a page, and a contact sheet."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from capcli.maps.overlay import color_table, draw_overlay, heatmaps
from capcli.maps.sheet import (
    GAP,
    INK,
    LABEL_HEIGHT,
    MARGIN,
    PALE_INK,
    PAPER,
    SMALL_SIZE,
    WORD_SIZE,
    load_font,
    write_label,
)
from capcli.maps.shown import as_jpeg, sentence

if TYPE_CHECKING:
    from capcli.results import Caption

TILE, COLUMNS = 132, 10  # a word's width in pixels; most words in a row


@dataclass(frozen=True, eq=False)
class Look:
    """Hold a caption of the photo.

    model: the checkpoint's name.
    seen: how each word saw the photo, in a few words.
    caption: with its photo.
    """

    model: str
    seen: str
    caption: Caption


def comparison_page(looks: Sequence[Look]) -> str:
    """Return an HTML page with a card for each look, one or more: pointing at a word shows its heat, if it has any."""
    from capcli.maps.page import load_templates  # here, as nothing else needs Jinja

    photo = looks[0].caption.photo
    assert photo is not None
    return (
        load_templates()
        .get_template("compare.html")
        .render(
            path=looks[0].caption.path,
            picture=base64.b64encode(as_jpeg(photo, optimize=True)).decode(),
            width=photo.width,
            height=photo.height,
            looks=[(look, sentence(look.caption.best), words_of(look)) for look in looks],
            colors=color_table("heat"),
        )
    )


def words_of(look: Look) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Return each word with its probability in percent, and what `sentence` says of its heat, or None."""
    best = look.caption.best
    shown = sentence(best)["words"] or [None] * len(best.words)
    told = zip(best.words, best.word_log_probs, shown, strict=False)
    return [(word, f"{math.exp(log_prob):.0%}", heat) for word, log_prob, heat in told]


def rows_of(count: int, columns: int) -> list[range]:
    """Return the numbers of words, from 0, row by row."""
    return [range(begin, min(begin + columns, count)) for begin in range(0, count, columns)]


def comparison_sheet(looks: Sequence[Look]) -> Image.Image:
    """Return a contact sheet: the photo, then a row per look at it, a tile and a probability for each word."""
    photo = looks[0].caption.photo
    assert photo is not None
    tile = photo.copy()
    tile.thumbnail((TILE, 3 * TILE), Image.Resampling.LANCZOS)
    columns = min(COLUMNS, max(3, *(len(look.caption.words) for look in looks)))
    line = round(1.5 * WORD_SIZE)
    rows = [
        (look, rows_of(len(look.caption.words), columns), tile.height * (look.caption.attention is not None))
        for look in looks
    ]
    height = sum(line + len(lines) * (picture + LABEL_HEIGHT) + GAP for _, lines, picture in rows)
    size = 2 * MARGIN + columns * (TILE + GAP) - GAP, 2 * MARGIN + tile.height + height
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    sheet.paste(tile, (MARGIN, MARGIN))
    name = os.path.basename(looks[0].caption.path)
    draw.text((MARGIN + TILE + GAP, MARGIN), name, PALE_INK, load_font(SMALL_SIZE))
    top = MARGIN + tile.height + GAP
    for look, lines, picture in rows:
        draw.text((MARGIN, top), look.model, INK, load_font(SMALL_SIZE))
        seen = MARGIN + round(draw.textlength(look.model, load_font(SMALL_SIZE))) + GAP
        draw.text((seen, top), look.seen, PALE_INK, load_font(SMALL_SIZE))
        top += line
        words = words_of(look)
        heat = heatmaps(look.caption.best, "word") if picture else None
        for each in lines:
            for column, number in enumerate(each):
                left = MARGIN + column * (TILE + GAP)
                if heat is not None:
                    sheet.paste(draw_overlay(tile, heat[number], look.caption.cell_offset), (left, top))
                word, percent, _ = words[number]
                write_label(draw, left, top + picture + LABEL_HEIGHT - 9, TILE, word, percent)
            top += picture + LABEL_HEIGHT
        top += GAP
    return sheet
