"""Captioning's speed on this machine, stage by stage, and its bottleneck."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from capcli.captioner import Captioner, candidates_of
from capcli.files import WholeFile
from capcli.images.decode import open_square, to_pixels
from capcli.outputs.formats import JsonLinesRows
from capcli.outputs.rows import Layout
from capcli.results import Caption, ImageError
from capcli.streaming import THREADS

STAGES = ("decode", "encode", "search", "write")
SECONDS = 2.0  # per stage, at least
MADE_SIZE = (1200, 900)  # of the pictures made without a folder


def make_images(folder: Path, number: int) -> list[str]:
    """Write JPEGs of smooth noise, all different, and return their paths."""
    rng = random.Random(0)
    paths = [str(folder / f"{i}.jpg") for i in range(number)]
    for path in paths:
        noise = Image.frombytes("RGB", (24, 18), rng.randbytes(24 * 18 * 3))
        noise.resize(MADE_SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def measure(captioner: Captioner, paths: Sequence[str], batch_size: int) -> dict[str, Any]:
    """Return images per second of each stage alone, on all cores, and of all together.

    "failed" lists unreadable images, which are left out. "together" counts from the first batch on, without loading.
    "shares" of the stages add up to 1 on a CPU, whose cores they share; with an accelerator, beside which decoding and
    writing run, each is relative to the longest. "bound" is the largest.
    """
    size = captioner.config.image_size

    def opened(path: str) -> Image.Image | ImageError:
        try:
            return open_square(path, size)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        squares = list(pool.map(opened, paths))  # also warms the disk
        started = time.perf_counter()
        squares = list(pool.map(opened, paths))
        rates = {"decode": len(paths) / (time.perf_counter() - started)}
    failed = [str(square) for square in squares if isinstance(square, ImageError)]
    good = [path for path, square in zip(paths, squares, strict=True) if isinstance(square, Image.Image)]
    if not good:
        return {"failed": failed}
    pixels = np.stack([to_pixels(square) for square in squares if isinstance(square, Image.Image)])
    rates["encode"] = encoding_rate(captioner, pixels, batch_size)
    rates["search"] = search_rate(captioner, pixels[:batch_size])
    list(captioner.stream(good[:batch_size], batch_size=batch_size))
    started = time.perf_counter()
    results = list(captioner.stream(good, batch_size=batch_size))
    together = len(good) / (time.perf_counter() - started)
    rates["write"] = writing_rate(results)
    seconds = {stage: 1 / rates[stage] for stage in STAGES}
    if captioner.device == "cpu":
        whole = sum(seconds.values())
    else:
        whole = max(seconds["decode"], seconds["encode"] + seconds["search"], seconds["write"])
    shares = {stage: seconds[stage] / whole for stage in STAGES}
    return {
        "device": captioner.device,
        "cores": captioner.workers * captioner.engine.threads,
        "precision": captioner.precision,
        "images": len(good),
        "failed": failed,
        "batch_size": batch_size,
        "images_per_second": rates | {"together": together},
        "shares": shares,
        "bound": max(shares, key=lambda stage: shares[stage]),
    }


def encoding_rate(captioner: Captioner, pixels: np.ndarray, batch_size: int) -> float:
    """Return the encoder's images per second. pixels: (images, size, size, 3)."""

    def encode(part: np.ndarray) -> None:
        captioner.engine.encode(part)
        captioner.engine.synchronize()

    return rate(captioner, encode, np.split(pixels, range(batch_size, len(pixels), batch_size)))


def search_rate(captioner: Captioner, pixels: np.ndarray) -> float:
    """Return images per second from features to candidates.

    pixels: (images, size, size, 3), searched as one batch.
    """
    features = captioner.engine.encode(pixels)

    def search(_: np.ndarray) -> None:
        found = captioner.engine.search(features, 1, captioner.options)
        candidates_of(found, captioner.vocabulary, captioner.config)

    return rate(captioner, search, [pixels])


def rate(captioner: Captioner, work: Callable[[np.ndarray], None], parts: Sequence[np.ndarray]) -> float:
    """Return how many elements of the parts are worked on per second, side by side as in `Captioner.stream`."""
    at_once = captioner.workers
    until = time.perf_counter()

    def turn(first: int) -> int:
        done = 0
        while not done or time.perf_counter() < until:
            part = parts[first % len(parts)]
            work(part)
            done += len(part)
            first += at_once
        return done

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(turn, range(at_once)))  # to allocate memory and choose kernels first
        started = time.perf_counter()
        until = started + SECONDS
        return sum(pool.map(turn, range(at_once))) / (time.perf_counter() - started)


def writing_rate(results: Sequence[Caption | ImageError]) -> float:
    """Return images per second into a JSON Lines file."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with WholeFile(Path(folder) / "captions.jsonl") as file:
            rows = JsonLinesRows(file, Layout())
            for result in results:
                rows.write(result)
        return len(results) / (time.perf_counter() - started)
