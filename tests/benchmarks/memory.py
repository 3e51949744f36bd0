"""Does memory grow with the number of images? Peak memory of `capcli caption` over 100 and over 10,000, and the ratio;
before that what importing PyTorch takes by itself, most of it in a build for CUDA.

    python tests/benchmarks/memory.py [--model FOLDER] [--large N] [NUMBER …]

40 different photos of 1200×900 pixels, made from tests/photos and linked as often as needed. --large N also measures N
PNGs of 90 megapixels, four different ones, against the first number of photos.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from photos import enlarged, write_photos

DIFFERENT, DIFFERENT_LARGE = 40, 4
LARGE = (12_000, 7_500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", type=int, nargs="*", default=[100, 10_000])
    parser.add_argument("--model")
    parser.add_argument("--large", type=int, default=0, metavar="N")
    options = parser.parse_args()
    model = ["--model", options.model] if options.model else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        originals = write_photos(folder / "originals", DIFFERENT, 1200, 900)
        large = [folder / f"{i}.png" for i in range(min(DIFFERENT_LARGE, options.large))]
        for i, path in enumerate(large):
            enlarged(i, *LARGE).save(path, compress_level=1)
        print(f"{'images':>7} {'seconds':>8} {'peak MB':>8} {'ratio':>6}")
        seconds, peak = measure([sys.executable, "-c", "import torch"])
        print(f"{'none':>7} {seconds:8.1f} {peak:8.0f}", flush=True)
        least = 0.0
        for number, files in [*((number, originals) for number in options.numbers), (options.large, large)]:
            if not number:
                continue
            photos = folder / f"{number} {files[0].suffix}"
            photos.mkdir()
            for i in range(number):
                original = files[i % len(files)]
                os.link(original, photos / f"{i}{original.suffix}")
            output = photos.with_suffix(".jsonl")
            command = [sys.executable, "-m", "capcli", "caption", str(photos), *model, "--output", str(output)]
            seconds, peak = measure(command)
            assert sum(1 for _ in output.open()) == number
            least = least or peak  # of the first number
            above = f"  {peak - least:+.0f} MB, of 90 megapixels each" if files is large else ""
            print(f"{number:7,} {seconds:8.1f} {peak:8.0f} {peak / least:6.2f}{above}", flush=True)


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds, and peak megabytes."""
    start = time.monotonic()
    process = subprocess.Popen(command)
    # The child's own peak; what getrusage says of children would be the largest of all so far.
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.monotonic() - start, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
