"""Does attention point at a person for words that name people?

The pointing game of Zhang et al. 2016 ("Top-down Neural Attention by Excitation Backprop"), played with our own
captions' words.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from capcli.maps.overlay import cell_place, strongest_place
from capcli.training.data.datasets import DataError, DataSet, load_json
from capcli.training.measuring.evaluation import caption_photos

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.options import DecodingOptions

# (left, top, right, bottom), in fractions of the photo.
Box = tuple[float, float, float, float]
# Words that always mean people; "group", "couple" or "adult" may mean animals.
PERSON_WORDS = frozenset(
    "man men woman women boy boys girl girls child children kid kids baby toddler person people guy guys lady ladies "
    "gentleman player players batter pitcher catcher umpire skier skiers snowboarder snowboarders skateboarder "
    "skateboarders surfer surfers rider riders cyclist cyclists biker bikers swimmer climber dancer crowd family "
    "teenager teenagers friends pedestrian pedestrians officer soldier soldiers".split()
)
SIZES = (0.05, 0.1, 0.25, 1.0)  # the largest person's share of the photo, up to which words are counted together
LARGEST_AREA = 0.5  # the most of a photo that people may fill; beyond it any location would hit


def read_boxes(path: Path) -> dict[str, list[Box]]:
    """Return a JSON file's boxes by photo file name.

    path: of `{"name.jpg": [[centre x, centre y, width, height], …]}`, in fractions of the photo.

    Raises DataError.
    """
    wanted = 'boxes are {"name.jpg": [[centre x, centre y, width, height], …], …}'
    rows = load_json(path, wanted)
    try:
        return {name: [corners(*map(float, box)) for box in boxes] for name, boxes in rows.items()}
    except (ValueError, TypeError, AttributeError):
        raise DataError(f"{path}: not boxes by file name; {wanted}") from None


def corners(x: float, y: float, width: float, height: float) -> Box:
    """Return a box, clipped to the photo. x, y: its centre; all in fractions of the photo."""
    return max(0.0, x - width / 2), max(0.0, y - height / 2), min(1.0, x + width / 2), min(1.0, y + height / 2)


def inside(x: float, y: float, boxes: Iterable[Box]) -> bool:
    """Return whether a point lies in one of the boxes."""
    return any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in boxes)


def covered(boxes: Sequence[Box]) -> float:
    """Return the share of the photo that boxes cover together, 0 to 1.

    Exact: the summed areas of covered cells in the grid of all boxes' edges.
    """
    xs = sorted({edge for box in boxes for edge in (box[0], box[2])})
    ys = sorted({edge for box in boxes for edge in (box[1], box[3])})
    return math.fsum(
        (x1 - x0) * (y1 - y0)
        for x0, x1 in itertools.pairwise(xs)
        for y0, y1 in itertools.pairwise(ys)
        if inside((x0 + x1) / 2, (y0 + y1) / 2, boxes)
    )


def cells_inside(boxes: Iterable[Box], rows: int, columns: int, cell_offset: float) -> Tensor:
    """Return which grid cells describe a place in a box, (rows · columns,) bool, row by row.

    boxes: in fractions of the photo.
    cell_offset: see `EncoderKind`.
    """
    return torch.tensor(
        [
            inside(*cell_place(row, column, (rows, columns), cell_offset), boxes)
            for row in range(rows)
            for column in range(columns)
        ]
    )


def seen_in_view(boxes: Iterable[Box], view: Box, mirrored: bool) -> list[Box]:
    """Return a photo's boxes in fractions of a view.

    boxes, view: in fractions of the photo.
    mirrored: whether the view is.
    """
    left, top, right, bottom = view
    shown = []
    for x0, y0, x1, y1 in boxes:
        x0, x1 = ((min(max(x, left), right) - left) / (right - left) for x in (x0, x1))
        y0, y1 = ((min(max(y, top), bottom) - top) / (bottom - top) for y in (y0, y1))
        shown.append((1 - x1, y0, 1 - x0, y1) if mirrored else (x0, y0, x1, y1))
    return shown


def measure_pointing(
    captioner: Captioner,
    data_set: DataSet,
    split: str,
    boxes: dict[str, list[Box]],
    options: DecodingOptions,
    batch_size: int,
) -> dict[str, Any]:
    """Return how often words for people point at a person, in captions of photos with boxes.

    Photos that people fill by more than LARGEST_AREA are skipped. "hits", "chance" (the boxes' mean area) and "centre"
    (hits of the photo's centre) are percentages of counted words. "misses" lists words that point elsewhere. "sizes"
    has words and hits by how much of the photo its largest person fills, up to each of SIZES.

    boxes: of people, by photo file name.
    batch_size: images per pass through the model, 1 or more.

    Raises DataError if there is nothing to measure, and ImageError.
    """
    listed = data_set.require(split)
    photos = {str(p.path): boxes[p.path.name] for p in listed if boxes.get(p.path.name)}
    areas = {path: covered(several) for path, several in photos.items()}
    chosen = [p for p in listed if areas.get(str(p.path), 1.0) <= LARGEST_AREA]
    if not chosen:
        raise DataError(f"{data_set.name}: no photo in split {split!r} has boxes that fill no more than half of it")
    words = hits = centre = 0
    chance = 0.0
    misses = []
    by_size: dict[float, list[bool]] = {size: [] for size in SIZES}
    for result in caption_photos(captioner, chosen, options, batch_size):
        for index, word in enumerate(result.words):
            if word not in PERSON_WORDS:
                continue
            assert result.attention is not None
            x, y = strongest_place(result.attention[index], result.cell_offset)
            hit = inside(x, y, photos[result.path])
            words, hits = words + 1, hits + hit
            largest = max(covered([box]) for box in photos[result.path])
            by_size[next(size for size in SIZES if largest <= size)].append(hit)
            chance += areas[result.path]
            centre += inside(0.5, 0.5, photos[result.path])
            if not hit:
                misses.append({"path": result.path, "word": word, "x": round(x, 3), "y": round(y, 3)})
    if not words:
        raise DataError(f"{data_set.name}: no caption in split {split!r} names a person")
    return {
        "data": data_set.name,
        "split": split,
        "photos": len(chosen),
        "skipped": len(photos) - len(chosen),
        "words": words,
        "hits": 100 * hits / words,
        "chance": 100 * chance / words,
        "centre": 100 * centre / words,
        "sizes": [
            {"up_to": 100 * size, "words": len(found), "hits": 100 * sum(found) / len(found)}
            for size, found in by_size.items()
            if found
        ],
        "misses": misses,
    }


def as_lines(result: dict[str, Any]) -> Iterator[str]:
    """Yield the figures as lines for a person. result: from `measure_pointing`."""
    yield (
        f"{result['data']} {result['split']}: {result['photos']} photos with people "
        f"({result['skipped']} more that people fill by over half are skipped), {result['words']} words for people"
    )
    yield f"points at a person       {result['hits']:6.1f} %"
    yield f"the picture's centre     {result['centre']:6.1f} %"
    yield f"chance (area of people)  {result['chance']:6.1f} %"
    for row in result["sizes"]:
        yield f"  largest up to {row['up_to']:3.0f} %   {row['hits']:6.1f} % of {row['words']} words"
