"""What is teaching worth, and what is forgotten? The curve of `capcli teach` over the number of photos.

    python tests/benchmarks/teach.py DATA [--skip N] [--forget DATA ...] [--photos 10 25 50 100] [--draws 3]

Of DATA's training photos N are drawn at random and taught; its dev photos, and those of the other data sets, are
captioned before and after. --skip leaves out the first N photos of DATA, where their captions are not theirs. Prints
CIDEr as `capcli evaluate` has it, and the seconds of each lesson. Where nothing of it was kept, CIDEr is as before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import tempfile
import time
from pathlib import Path

import torch

from capcli.captioner import Captioner
from capcli.checkpoints.hub import bundled_checkpoint
from capcli.results import Caption
from capcli.training.data.datasets import DataSet, read_data_set
from capcli.training.measuring.metrics import score_captions
from capcli.training.teaching.teaching import teach


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--forget", nargs="*", default=[])
    parser.add_argument("--photos", type=int, nargs="*", default=[10, 25, 50, 100])
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)  # learners work side by side
    taught, *others = (read_data_set(data, allow_outside=True) for data in (options.data, *options.forget))
    taught = DataSet(taught.name, taught.photos[options.skip :])
    bundled = bundled_checkpoint()
    print(f"{'photos':>6} {'draw':>4} {'s':>4}", *(f"{data.name:>9}" for data in (taught, *others)))

    def line(photos: int, draw: int, seconds: float, model: Path) -> None:
        scores = [cider(model, data) for data in (taught, *others)]
        print(f"{photos:6} {draw:4} {seconds:4.0f}", *(f"{score:9.1f}" for score in scores), flush=True)

    line(0, 0, 0, bundled)
    train = taught.split("train")
    for number in options.photos:
        for draw in range(options.draws):
            photos = random.Random(draw).sample(train, number)
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
                began = time.monotonic()
                workers = os.cpu_count() or 1
                kept = teach(DataSet(taught.name, photos), bundled, Path(folder), 1 + draw, workers=workers)
                seconds = time.monotonic() - began
                line(number, draw, seconds, Path(folder) if kept else bundled)


def cider(model: Path, data: DataSet) -> float:
    """CIDEr of what a checkpoint says of a data set's dev photos, in percent."""
    photos = data.require("dev")
    captioner = Captioner.load(model, device="cpu", precision="fp32", workers=os.cpu_count() or 1)
    captions = [c.text for c in captioner.stream([str(p.path) for p in photos]) if isinstance(c, Caption)]
    return float(score_captions(captions, [p.captions for p in photos], meteor=False)["cider"])


if __name__ == "__main__":
    main()
