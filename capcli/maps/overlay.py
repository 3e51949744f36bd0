"""A word's attention weights as heat over the photo."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from capcli.results import Candidate

STYLES, SCALES = ("heat", "spotlight"), ("word", "caption")
# (heat, red, green, blue, opacity): violet via red and orange to light yellow, lightness rising all the way.
ANCHORS = {
    "heat": (
        (0.0, 40, 10, 120, 0.0),
        (0.25, 90, 15, 150, 0.30),
        (0.5, 200, 40, 110, 0.48),
        (0.75, 250, 120, 40, 0.58),
        (1.0, 255, 235, 110, 0.66),
    ),
    "spotlight": ((0.0, 0, 0, 0, 0.86), (0.5, 0, 0, 0, 0.38), (1.0, 0, 0, 0, 0.0)),
}


@dataclass(frozen=True)
class OverlayOptions:
    """Describe how to draw attention.

    size: longest side of a word's picture, in pixels.
    style: one of STYLES: `heat` colours where the model looks, `spotlight` darkens the rest.
    scale: one of SCALES. `word` draws each word's strongest cell at full strength; `caption` multiplies weights by the
        gate β_t and compares them with the caption's strongest, so that a word stays pale if the model looks nowhere in
        particular.
    smooth: whether to interpolate between cells.
    gif: whether to add an animation.
    """

    size: int = 640
    style: str = "heat"
    scale: str = "word"
    smooth: bool = True
    gif: bool = False


def heatmaps(candidate: Candidate, scale: str) -> np.ndarray:
    """Return each word's heat to draw, (words, rows, columns) in 0 … 1, float64.

    scale: one of SCALES, see OverlayOptions.

    Raises ValueError without attention.
    """
    if candidate.attention is None:
        raise ValueError("this checkpoint's decoder has no attention")
    weights = np.asarray(candidate.attention, np.float64)
    if scale == "caption":
        if candidate.gates is not None:
            weights = weights * np.asarray(candidate.gates, np.float64)[:, None, None]
        return weights / weights.max()
    return weights / weights.max((1, 2), keepdims=True)


def upsample(heat: np.ndarray, width: int, height: int, offset: float = 0.0, smooth: bool = True) -> np.ndarray:
    """Stretch heat from the squashed square to the picture's own shape, (height, width) float64.

    heat: (rows, columns), in 0 … 1.
    width, height: in pixels.
    offset: where annotation vectors look, right of and below their cells' middles, in cells.
    smooth: whether to interpolate, leaving the highest value in place. Otherwise, and for heat in a single cell (hard
        attention), each pixel takes the nearest cell's value.
    """
    smooth = smooth and int((heat > 0).sum()) > 1
    rows, columns = heat.shape
    return spread(rows, height, offset, smooth) @ heat.astype(np.float64) @ spread(columns, width, offset, smooth).T


def cell_place(row: int, column: int, grid: tuple[int, int], offset: float) -> tuple[float, float]:
    """Return the middle of a cell's place, x and y in fractions of the picture's width and height.

    row, column: of the cell, from 0.
    grid: rows and columns.
    offset: see `upsample`.
    """
    rows, columns = grid
    return (column + 0.5 + offset) / columns, (row + 0.5 + offset) / rows


def strongest_place(heat: np.ndarray, offset: float) -> tuple[float, float]:
    """Return where an overlay is strongest, as `cell_place` does.

    heat: (rows, columns).
    offset: see `upsample`.
    """
    rows, columns = heat.shape
    row, column = divmod(int(np.argmax(heat)), columns)
    return cell_place(row, column, (rows, columns), offset)


def spread(cells: int, pixels: int, offset: float, smooth: bool) -> np.ndarray:
    """Return each cell's weight at each pixel along a side, (pixels, cells) float64; rows sum to 1.

    cells, pixels: numbers along this side.
    offset, smooth: see `upsample`.
    """
    places = np.clip((np.arange(pixels, dtype=np.float64) + 0.5) * cells / pixels - 0.5 - offset, 0, cells - 1)
    one_hot = np.eye(cells)
    if not smooth:
        return one_hot[(places + 0.5).astype(int)]
    low = places.astype(int)
    part = (places - low)[:, None]
    part = part * (0.5 + 1.5 * part - part * part)  # between linear (draws stars) and smoothstep (boxes)
    return one_hot[low] * (1 - part) + one_hot[np.minimum(low + 1, cells - 1)] * part


def color_table(style: str) -> list[tuple[int, int, int, int]]:
    """Return red, green, blue and opacity, 0 … 255, for heat 0/255 … 255/255. style: one of STYLES."""
    table = []
    for value in range(256):
        at = value / 255
        low, high = next((a, b) for a, b in itertools.pairwise(ANCHORS[style]) if at <= b[0])
        part = (at - low[0]) / (high[0] - low[0])
        red, green, blue, opacity = (a + (b - a) * part for a, b in zip(low[1:], high[1:], strict=True))
        table.append((round(red), round(green), round(blue), round(255 * opacity)))
    return table


def draw_overlay(
    photo: Image.Image, heat: np.ndarray, offset: float = 0.0, style: str = "heat", smooth: bool = True
) -> Image.Image:
    """Return the photo under one word's heat, in its own size and RGB.

    heat: (rows, columns), in 0 … 1.
    offset, smooth: see `upsample`.
    style: one of STYLES.
    """
    values = np.rint(upsample(heat, photo.width, photo.height, offset, smooth) * 255).astype(np.uint8)
    level = Image.frombytes("L", photo.size, values.tobytes())
    channels = [level.point(list(channel)) for channel in zip(*color_table(style), strict=True)]
    return Image.alpha_composite(photo.convert("RGBA"), Image.merge("RGBA", channels)).convert("RGB")
