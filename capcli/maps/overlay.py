"""A word's attention weights as heat over the photo."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot

if TYPE_CHECKING:
    from capcli.results import Candidate

STYLES, SCALES = ("heat", "spotlight"), ("word", "caption")
# (heat, red, green, blue, opacity): violet over red and orange to a light yellow, lightness rising all the way.
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
    """size: longest side of a word's picture in pixels. style: of STYLES. scale: `word` draws each word's strongest
    place at full strength; `caption` multiplies weights by the gate β_t and measures them against the strongest of the
    caption, so that a word that looks nowhere in particular stays pale. smooth: interpolate between cells. gif: write
    an animation too.
    """

    size: int = 640
    style: str = "heat"
    scale: str = "word"
    smooth: bool = True
    gif: bool = False


def heatmaps(candidate: Candidate, scale: str) -> Tensor:
    """What to draw for each word, (words, rows, columns) in 0 … 1. Raises ValueError where there is no attention."""
    if candidate.attention is None:
        raise ValueError("this checkpoint's decoder has no attention")
    weights = candidate.attention.double()
    if scale == "caption":
        if candidate.gates is not None:
            weights = weights * candidate.gates.double()[:, None, None]
        return weights / weights.max()
    return weights / weights.amax((1, 2), keepdim=True)


def upsample(heat: Tensor, width: int, height: int, offset: float = 0.0, smooth: bool = True) -> Tensor:
    """(rows, columns) over the squashed square → (height, width) over the picture in its own shape.

    offset: how far, in cells, the places that the annotation vectors describe lie right of and below the cells'
    middles. Smooth values are interpolated between neighbours, so that the highest one stays where it is; else,
    and for a map with a single cell, as hard attention gives, every pixel takes the value of the nearest place.
    """
    smooth = smooth and int((heat > 0).sum()) > 1
    rows, columns = heat.shape
    return spread(rows, height, offset, smooth) @ heat.double() @ spread(columns, width, offset, smooth).T


def cell_place(row: int, column: int, grid: tuple[int, int], offset: float) -> tuple[float, float]:
    """The middle of what a cell of a (rows, columns) grid describes, x and y in fractions; offset: as in `upsample`."""
    rows, columns = grid
    return (column + 0.5 + offset) / columns, (row + 0.5 + offset) / rows


def strongest_place(heat: Tensor, offset: float) -> tuple[float, float]:
    """Where an overlay of heat, (rows, columns), is brightest; x and y in fractions."""
    rows, columns = heat.shape
    row, column = divmod(int(heat.argmax()), columns)
    return cell_place(row, column, (rows, columns), offset)


def spread(cells: int, pixels: int, offset: float, smooth: bool) -> Tensor:
    """(pixels, cells): how much each cell says about each pixel along one side; rows sum to 1."""
    places = (torch.arange(pixels, dtype=torch.float64) + 0.5) * cells / pixels - 0.5 - offset
    places = places.clamp(0, cells - 1)
    if not smooth:
        return one_hot((places + 0.5).long(), cells).double()
    low = places.long()
    part = (places - low)[:, None]
    part = part * (0.5 + 1.5 * part - part * part)  # between linear, which draws stars, and smoothstep: boxes
    return one_hot(low, cells) * (1 - part) + one_hot((low + 1).clamp(max=cells - 1), cells) * part


def color_table(style: str) -> list[tuple[int, int, int, int]]:
    """Red, green, blue and opacity, 0 … 255, for heat 0/255 … 255/255."""
    table = []
    for value in range(256):
        at = value / 255
        low, high = next((a, b) for a, b in itertools.pairwise(ANCHORS[style]) if at <= b[0])
        part = (at - low[0]) / (high[0] - low[0])
        red, green, blue, opacity = (a + (b - a) * part for a, b in zip(low[1:], high[1:], strict=True))
        table.append((round(red), round(green), round(blue), round(255 * opacity)))
    return table


def draw_overlay(
    photo: Image.Image, heat: Tensor, offset: float = 0.0, style: str = "heat", smooth: bool = True
) -> Image.Image:
    """The photo under one word's heat, (rows, columns) in 0 … 1; same size and RGB. offset: as `upsample` has it."""
    values = (upsample(heat, photo.width, photo.height, offset, smooth) * 255).round().to(torch.uint8)
    level = Image.frombytes("L", photo.size, values.numpy().tobytes())
    channels = [level.point(list(channel)) for channel in zip(*color_table(style), strict=True)]
    return Image.alpha_composite(photo.convert("RGBA"), Image.merge("RGBA", channels)).convert("RGB")
