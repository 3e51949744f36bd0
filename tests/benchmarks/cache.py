"""How much faster are photos that the cache knows? The whole command, start included, on the CPU.

    python tests/benchmarks/cache.py [--runs N] [--photos N] [--folder FOLDER]

Photos are captioned without a cache, then with one that is empty, and, moved and renamed, with one that knows them; by
turns. Images per second and processor time per image, medians. Without --folder the photos are made from tests/photos,
320×240 pixels.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from engines import CAPTION, Cost, measure
from photos import write_photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    costs: dict[str, list[Cost]] = {"no cache": [], "an empty one": [], "one that knows them": []}
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        if options.folder is None:
            write_photos(here / "photos", options.photos, 320, 240)
        else:
            shutil.copytree(options.folder, here / "photos")
        (here / "moved").mkdir()
        photos = sorted((here / "photos").iterdir())
        for i, photo in enumerate(photos):
            shutil.copy(photo, here / "moved" / f"holiday-{i}{photo.suffix}")
        for _ in range(options.runs):
            cache = ["--cache", str(here / "kept.db")]
            (here / "kept.db").unlink(missing_ok=True)
            for title, folder, more in zip(costs, ("photos", "photos", "moved"), ([], cache, cache), strict=True):
                command = [*CAPTION, str(here / folder), *more]
                costs[title].append(measure(command))
                print(f"{title:20}{costs[title][-1].seconds:9.2f} s{costs[title][-1].processor:9.2f} s", flush=True)
    print(f"\n{f'{len(photos):,} photos':20}{'images/s':>9}{'ratio':>7}{'ms/image':>9}{'ratio':>7}")
    without = [[getattr(cost, kind) for cost in costs["no cache"]] for kind in ("seconds", "processor")]
    for title, several in costs.items():
        seconds, processor = ([getattr(cost, kind) for cost in several] for kind in ("seconds", "processor"))
        # Ratios of runs next to each other: what else the machine does slows both.
        ratios = [
            statistics.median(a / b for a, b in zip(*pair, strict=True))
            for pair in zip(without, (seconds, processor), strict=True)
        ]
        rate, each = len(photos) / statistics.median(seconds), 1000 * statistics.median(processor) / len(photos)
        print(f"{title:20}{rate:9.1f}{ratios[0]:7.1f}{each:9.2f}{ratios[1]:7.1f}")


if __name__ == "__main__":
    main()
