"""Photos for the benchmarks, all different, made from tests/photos."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

ORIGINALS = sorted((Path(__file__).parents[1] / "photos").glob("*.jpg"))


def crops(number: int, seed: int = 0) -> Iterator[Image.Image]:
    """Random parts of the originals, at least half as wide and high as they are, some mirrored."""
    rng = random.Random(seed)
    originals = [Image.open(path).convert("RGB") for path in ORIGINALS]
    for i in range(number):
        original = originals[i % len(originals)]
        width, height = (round(side * rng.uniform(0.5, 1)) for side in original.size)
        left, top = rng.randint(0, original.width - width), rng.randint(0, original.height - height)
        crop = original.crop((left, top, left + width, top + height))
        yield crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else crop


def enlarged(seed: int, width: int, height: int) -> Image.Image:
    """One such crop at this size."""
    (crop,) = crops(1, seed)
    return crop.resize((width, height), Image.Resampling.BICUBIC)


def write_photos(folder: Path, number: int, width: int, height: int, quality: int = 90) -> list[Path]:
    """A folder of photos of this size; their paths."""
    folder.mkdir(parents=True)
    paths = [folder / f"{i}.jpg" for i in range(number)]
    for path, crop in zip(paths, crops(number), strict=True):
        crop.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=quality)
    return paths
