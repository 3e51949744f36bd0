"""What does each engine take? One photo from a cold prompt, and a folder; the engines run by turns, on the CPU.

    python tests/benchmarks/engines.py [--runs N] [--photos N] [--folder FOLDER]

One photo of 12 megapixels: seconds of the whole command, and peak memory, beside `import torch`. The folder: images per
second and processor time per image, both without what one photo takes, and peak memory. Without --folder its photos are
made from tests/photos, 320×240 pixels. Medians of all runs; PyTorch in fp32 and, where the processor has it, in bf16.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from photos import enlarged, write_photos

CAPTION = [sys.executable, "-m", "capcli", "caption", "--device", "cpu", "--quiet"]
ENGINES = {
    "ONNX Runtime": ["--engine", "onnx"],
    "PyTorch, fp32": ["--engine", "torch", "--precision", "fp32"],
    "PyTorch, auto": ["--engine", "torch"],
}


class Cost(NamedTuple):
    """What a command takes: seconds on the clock, seconds of processors, and megabytes at its peak."""

    seconds: float
    processor: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        photo = Path(name) / "photo.jpg"
        enlarged(0, 4000, 3000).save(photo, quality=90)
        folder = options.folder or Path(name) / "folder"
        if options.folder is None:
            write_photos(folder, options.photos, 320, 240)
        number = sum(1 for _ in folder.iterdir())
        once = {engine: [*CAPTION, str(photo), *extra] for engine, extra in ENGINES.items()}
        one = by_turns(once | {"import torch": [sys.executable, "-c", "import torch"]}, options.runs)
        output = ["--output", str(Path(name) / "out.jsonl"), "--existing", "overwrite"]
        many = by_turns({e: [*CAPTION, str(folder), *output, *extra] for e, extra in ENGINES.items()}, options.runs)
    print(f"\n{'one photo of 12 megapixels':28}{'seconds':>9}{'of torch':>9}{'MB':>7}")
    for title, cost in one.items():
        print(f"{title:28}{cost.seconds:9.2f}{cost.seconds / one['import torch'].seconds:9.2f}{cost.peak:7.0f}")
    print(f"\n{f'{number:,} photos':28}{'images/s':>9}{'ms/image':>9}{'MB':>7}")
    for title, cost in many.items():
        rate = (number - 1) / (cost.seconds - one[title].seconds)
        each = 1000 * (cost.processor - one[title].processor) / (number - 1)
        print(f"{title:28}{rate:9.1f}{each:9.1f}{cost.peak:7.0f}")


def by_turns(commands: dict[str, list[str]], runs: int) -> dict[str, Cost]:
    """The median of each command's costs. The first run of each, which warms the disk, is not counted."""
    costs: dict[str, list[Cost]] = {title: [] for title in commands}
    for run in range(runs + 1):
        for title, command in commands.items():
            cost = measure(command)
            if run:
                costs[title].append(cost)
            print(f"{title:28}{cost.seconds:9.2f} s{cost.processor:9.2f} s{cost.peak:7.0f} MB", flush=True)
    return {title: Cost(*map(statistics.median, zip(*several, strict=True))) for title, several in costs.items()}


def measure(command: list[str]) -> Cost:
    """Run a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # The child's own peak; what getrusage says of children would be the largest of all so far.
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return Cost(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
