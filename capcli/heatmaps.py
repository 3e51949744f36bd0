"""Attention weights as overlay PNGs, a contact sheet, an animation and JSON."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import one_hot

from capcli.files import LockedFolder, write_whole
from capcli.images import STANDARD_INPUT, ImageError, open_upright
from capcli.locks import TEMPORARY
from capcli.overlay_files import ANIMATION, RECORD, SHEET, drawn_pictures, picture_names, read_record, safe_name
from capcli.writers import dump

if TYPE_CHECKING:
    from capcli.captioner import Candidate, Caption

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
SHEET_WIDTH, SHEET_HEIGHT = 1200, 820  # pixels; the height is what the layout aims at
MARGIN, GAP, LABEL = 28, 16, 34
TITLE_SIZE, WORD_SIZE, SMALL_SIZE = 36, 23, 17
PAPER, INK, PALE_INK = "#ffffff", "#16181d", "#6b7280"
GIF_SIDE, GIF_MILLISECONDS = 480, 800


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


def attention_record(path: str, candidate: Candidate) -> dict[str, Any]:
    """`{"path", "caption", "grid", "words": [{"word", "log_prob", "gate", "weights"}]}`; weights row by row, sum 1.

    grid and weights are null without attention, gate without a gate.
    """
    weights: list[list[float] | None] = [None] * len(candidate.words)
    grid = None
    if candidate.attention is not None:
        exact = candidate.attention.double()
        grid = list(exact.shape[1:])
        weights = [[round(w, 7) for w in (each / each.sum()).flatten().tolist()] for each in exact]
    gates = [None] * len(weights) if candidate.gates is None else [round(g, 4) for g in candidate.gates.tolist()]
    words = [
        {"word": word, "log_prob": round(log_prob, 4), "gate": gate, "weights": each}
        for word, log_prob, gate, each in zip(candidate.words, candidate.word_log_probs, gates, weights, strict=False)
    ]
    return {"path": path, "caption": candidate.text, "grid": grid, "words": words}


def write_overlays(candidate: Candidate, photo: Image.Image, path: str, folder: Path, options: OverlayOptions) -> None:
    """Fill an existing folder: attention.json, `00_word.png` …, attention.png and, if wanted, attention.gif.

    photo: upright RGB, no larger than options.size. path: as attention.json is to name it. Every file is written
    whole; pictures that capcli drew there for an earlier caption are removed. Raises OSError.
    """
    names = picture_names(candidate.words)
    # Before the record that names them is replaced: a run killed in between leaves no picture that nobody knows.
    for old in drawn_pictures(folder) - {*names, SHEET, *([ANIMATION] if options.gif else [])}:
        (folder / old).unlink(missing_ok=True)
    # First, because it marks the folder as this image's.
    write_whole(folder / RECORD, (dump(attention_record(path, candidate)) + "\n").encode(), durable=False)
    overlays = [
        draw_overlay(photo, heat, candidate.cell_offset, options.style, options.smooth)
        for heat in heatmaps(candidate, options.scale)
    ]
    for name, overlay in zip(names, overlays, strict=True):
        write_whole(folder / name, encode(overlay), durable=False)
    sheet = contact_sheet(photo, overlays, candidate.words, candidate.word_log_probs, candidate.text)
    write_whole(folder / SHEET, encode(sheet), durable=False)
    if options.gif:
        write_whole(folder / ANIMATION, animate(photo, overlays, candidate.words), durable=False)


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


class AttentionFolders:
    """Writes a folder of overlays for each caption, named after its image. One run at a time writes into the folder of
    these."""

    def __init__(self, folder: Path, options: OverlayOptions, replace: bool = False) -> None:
        """Make the folder. replace: overlays that are there already are drawn anew, else an ImageError. Raises OSError,
        also where another run writes into it."""
        self.path, self.options, self.replace = folder, options, replace
        self.taken: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.lock = LockedFolder(folder)

    def write(self, result: Caption | ImageError) -> None:
        """Overlays for a caption, nothing for a failure. Raises ImageError if the image cannot be read any more, and
        for overlays that are not to be replaced."""
        if not isinstance(result, ImageError):
            photo = open_upright(result.path, self.options.size)
            write_overlays(result, photo, result.path, self.claim(result.path), self.options)

    def claim(self, path: str) -> Path:
        """A folder for this image alone: `name`, else `name-2`, …; its own from an earlier run is used again. Raises
        ImageError where that is not to be replaced."""
        base = "stdin" if path == STANDARD_INPUT else safe_name(Path(path).stem)
        for number in itertools.count(self.numbers.get(base.casefold(), 1)):
            folder = self.path / (base if number == 1 else f"{base}-{number}")
            if folder.name.casefold() in self.taken:
                continue
            try:
                folder.mkdir()
            except FileExistsError:
                if (read_record(folder) or {}).get("path") != path and not is_abandoned(folder):
                    continue
                if not self.replace and (folder / SHEET).exists():  # or they were never finished
                    raise ImageError(path, "its overlays exist; say --existing overwrite, or another folder") from None
            self.numbers[base.casefold()] = number + 1
            self.taken.add(folder.name.casefold())
            return folder
        raise AssertionError  # count() has no end

    def close(self) -> None:
        """Let other runs write into the folder; one that was made for nothing goes."""
        self.lock.close()


def is_abandoned(folder: Path) -> bool:
    """Whether a folder holds only what a killed run had not finished."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return bool(names) and all(map(TEMPORARY.fullmatch, names))
