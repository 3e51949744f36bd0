"""Does decoding large JPEGs at reduced size change captions?

    python tests/benchmarks/draft.py PHOTO_FOLDER [--model FOLDER] [--number N] [--names FILE]

Enlarges photos, saves them as JPEG, and captions them twice: decoded at reduced size, as the program does, and whole.
Both round pixels differently, so captions that were all but tied may change places; the mean score tells whether one
way is the worse.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from itertools import islice
from pathlib import Path

from PIL import Image

from capcli.captioner import Captioner
from capcli.images.find import find_images
from capcli.results import Caption, ImageError

SIDES = (1280, 2560)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--names", type=Path, help="file of names in the folder, one per line")
    options = parser.parse_args()
    captioner = Captioner.load(options.model)
    if options.names:
        sources = [str(Path(options.folder) / name) for name in options.names.read_text().split()]
    else:
        sources = [path for path in islice(find_images([options.folder]), 10_000) if isinstance(path, str)]
    sources = random.Random(1).sample(sources, min(options.number, len(sources)))
    print(f"{'longest side':>12} {'photos':>7} {'same caption':>12} {'mean score, reduced':>20} {'whole':>9}")
    for side in SIDES:
        same, reduced_score, whole_score = 0, 0.0, 0.0
        with tempfile.TemporaryDirectory() as name:
            for source in sources:
                path = Path(name) / "photo.jpg"
                with Image.open(source) as image:
                    scale = side / max(image.size)
                    size = round(image.width * scale), round(image.height * scale)
                    image.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=90)
                with Image.open(path) as image:
                    whole = image.convert("RGB")  # a decoded image cannot be drafted any more
                reduced, full = one(captioner, path), one(captioner, whole)
                same += reduced.text == full.text
                reduced_score += reduced.score
                whole_score += full.score
        number = len(sources)
        means = f"{reduced_score / number:20.4f} {whole_score / number:9.4f}"
        print(f"{side:12} {number:7} {same / number:12.1%} {means}", flush=True)


def one(captioner: Captioner, image: Path | Image.Image) -> Caption:
    (result,) = captioner.stream([image])
    if isinstance(result, ImageError):
        raise result
    return result


if __name__ == "__main__":
    main()
