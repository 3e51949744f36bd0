"""How close does captioning a folder come to what the machine could do? On the CPU, beam 3, bundled checkpoint.

    python tests/benchmarks/folder.py [--precision auto|fp32|bf16] [--batch-size N] [--small N] [--large N]

Small photos: images per second of everything together, start-up left out, against those of the encoder alone at its
best batch size, both with all cores on one batch and with a batch to each core. Twelve-megapixel photos: against the
slower of the encoder alone and decoding alone on all cores. The photos are made from tests/photos.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from photos import write_photos

from capcli.bench.measuring import encoding_rate, search_rate
from capcli.captioner import Captioner
from capcli.cli.process import one_core_per_batch, set_up_process
from capcli.images.decode import open_square, to_pixels
from capcli.streaming import THREADS

BATCH_SIZES = (8, 16, 32, 64)
DIFFERENT = 20  # of the large photos; the rest are links to them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--large", type=int, default=200)
    options = parser.parse_args()
    set_up_process()
    cores = torch.get_num_threads()
    captioner = Captioner.load(device="cpu", precision=options.precision, engine="torch")
    one_core_per_batch(captioner, captioner.options)
    size = captioner.config.image_size
    with tempfile.TemporaryDirectory() as name:
        small = write_photos(Path(name) / "small", options.small, 320, 240)
        large = write_photos(Path(name) / "large", min(DIFFERENT, options.large), 4000, 3000)
        for i in range(len(large), options.large):
            large.append(Path(name) / "large" / f"{i}.jpg")
            os.link(large[i % DIFFERENT], large[i])
        pixels = np.stack([to_pixels(open_square(path, size)) for path in small[:64]])
        print(f"{captioner.precision}, {cores} cores; images/s")
        encoder = best_encoder(captioner, pixels, cores)
        print(f"search alone, a batch to each core{search_rate(captioner, pixels[: options.batch_size]):12.1f}")
        for title, paths in ((f"{len(small):,} small", small), (f"{len(large):,} of 12 megapixels", large)):
            decoding = decoding_rate(paths, size)
            print(f"decoding alone, {title:18}{decoding:12.1f}")
            list(captioner.stream(paths[: options.batch_size], batch_size=options.batch_size))
            started = time.perf_counter()
            done = sum(1 for _ in captioner.stream(paths, batch_size=options.batch_size))
            together = done / (time.perf_counter() - started)
            print(f"together, {title:24}{together:12.1f}  {together / min(encoder, decoding):5.0%}", flush=True)


def best_encoder(captioner: Captioner, pixels: np.ndarray, cores: int) -> float:
    """Images per second of the folded encoder alone, the best of several ways to run it."""
    best = 0.0
    torch.set_num_threads(cores)
    for batch_size in BATCH_SIZES:
        batch = torch.from_numpy(pixels[:batch_size]).permute(0, 3, 1, 2)
        with torch.inference_mode():
            captioner.engine.encoder(batch)
            started, done = time.perf_counter(), 0
            while time.perf_counter() < started + 2:
                captioner.engine.encoder(batch)
                done += batch_size
            all_cores = done / (time.perf_counter() - started)
        print(f"encoder alone, all cores on batches of {batch_size:2}{all_cores:8.1f}")
        best = max(best, all_cores)
    torch.set_num_threads(1)
    each = encoding_rate(captioner, pixels, 32)
    print(f"encoder alone, a batch to each core{each:11.1f}", flush=True)
    return max(best, each)


def decoding_rate(paths: list[Path], size: int) -> float:
    """Images per second from files to squares of the model's size."""
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda path: open_square(path, size), paths):
            pass
    return len(paths) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
