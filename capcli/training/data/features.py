"""Training photos' features from a frozen encoder, computed once and kept in files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import Module

from capcli.files import write_whole
from capcli.images.decode import open_square, to_pixels
from capcli.model.encoders import Encoder, Features
from capcli.model.precision import autocast
from capcli.streaming import ahead
from capcli.training.data.datasets import Photo

ENCODER_BATCH = 32
BATCHES_AHEAD = 3
CROP_AREA = 0.6  # the smallest share of a photo in a crop, so that captions stay true


def is_mirrored(view: int) -> bool:
    """Return whether a view is mirrored. Views are the photo, its mirror image, a crop, a mirrored crop, a crop …"""
    return view % 2 == 1


def view_box(name: str, view: int) -> tuple[float, float, float, float]:
    """Return the part of a photo in a view: left, top, right, bottom as fractions of the photo.

    Views from 2 on are random crops of at least CROP_AREA, always the same ones.

    name: the photo's file name.
    view: 0 or more.
    """
    if view < 2:
        return 0.0, 0.0, 1.0, 1.0
    rng = random.Random(f"{name} {view}")
    width = rng.uniform(CROP_AREA, 1)
    height = min(1.0, rng.uniform(CROP_AREA, 1) / width)
    left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
    return left, top, min(1.0, left + width), min(1.0, top + height)


def load_view(photo: Photo, view: int, size: int) -> Tensor:
    """Return one view's pixels, (3, size, size) uint8.

    view: 0 or more, see `is_mirrored` and `view_box`.

    Raises ImageError.
    """
    if view < 2:
        image = open_square(photo.source(), size)
    else:
        image = open_square(photo.source(), 2 * size)
        left, top, right, bottom = (2 * size * edge for edge in view_box(photo.path.name, view))
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, right, bottom))
    if is_mirrored(view):
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(to_pixels(image)).permute(2, 0, 1)


def encode_views(
    encoder: Encoder, photos: list[Photo], views: int, size: int, device: torch.device, precision: str
) -> Iterator[Features]:
    """Yield the features of all photos' views, photo by photo, in batches; threads decode ahead.

    encoder: in evaluation mode.
    views: per photo, 1 or more.
    size: side in pixels.
    precision: bf16 or fp32.

    Raises ImageError.
    """
    jobs = [(photo, view) for photo in photos for view in range(views)]

    def batches() -> Iterator[list[tuple[Photo, int]]]:
        # From one view, to show progress at once, doubling up to ENCODER_BATCH.
        begin, size = 0, 1
        while begin < len(jobs):
            yield jobs[begin : begin + size]
            begin, size = begin + size, min(2 * size, ENCODER_BATCH)

    def decode(batch: list[tuple[Photo, int]]) -> Tensor:
        return torch.stack([load_view(photo, view, size) for photo, view in batch])

    with torch.inference_mode():
        for pixels in ahead(decode, batches(), BATCHES_AHEAD):
            with autocast(device, precision):
                yield encoder(pixels.to(device, memory_format=torch.channels_last))


class FeatureStore:
    """Keep photos' annotation and global vectors in half precision, in memory-mapped files.

    annotations: (photos, views, locations, channels).
    global_vectors: (photos, views, channels).
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        photos: list[Photo],
        views: int,
        size: int,
        device: torch.device,
        precision: str,
    ) -> None:
        """Name the files; `open` makes them.

        folder: for files named by weights, photos, views, size and precision.
        encoder, photos, views, size, device, precision: see `encode_views`.

        Raises OSError for a missing photo.
        """
        state = hash_weights(encoder)
        listing = [photo.stamp() for photo in photos]
        state.update(json.dumps([listing, views, size, encoder.stride, precision]).encode())
        base = folder / state.hexdigest()[:16]
        self.files = [base.with_suffix(suffix) for suffix in (".annotations", ".globals", ".json")]
        side = -(-size // encoder.stride)
        self.shapes = (
            (len(photos), views, side * side, encoder.kind.annotation_size),
            (len(photos), views, encoder.kind.global_size),
        )
        self.encode = partial(encode_views, encoder, photos, views, size, device, precision)

    def open(self, progress: Callable[[int], object] = lambda done: None) -> None:
        """Map the files into memory, encoding the photos first if needed.

        progress: is given the number of views just encoded.

        Raises OSError (a full disk, say) and ImageError.
        """
        done = self.files[2]
        done.parent.mkdir(parents=True, exist_ok=True)
        self.annotations, self.global_vectors = map(map_file, self.files, self.shapes)
        if done.exists():
            return
        position = 0
        for features in self.encode():
            count = len(features.global_vector)
            self.annotations.flatten(0, 1)[position : position + count] = features.annotations.half().cpu()
            self.global_vectors.flatten(0, 1)[position : position + count] = features.global_vector.half().cpu()
            position += count
            progress(count)
        write_whole(done, b"{}")

    def delete(self) -> None:
        """Remove the files, and their folder if then empty."""
        for file in self.files:
            file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.files[0].parent.rmdir()


def hash_weights(module: Module) -> hashlib._Hash:
    """Return a hash of a module's tensors, in half precision so that a reloaded checkpoint has the same."""
    state = hashlib.sha256()
    for tensor in module.state_dict().values():
        state.update(tensor.detach().cpu().half().numpy().tobytes())
    return state


def look_up(stores: list[FeatureStore], photos: Tensor, views: Tensor) -> Features:
    """Return features of photos' views, on the CPU in half precision.

    photos: (batch,) indices, counted through all stores.
    views: (batch,) index of each photo's view.
    """
    first = stores[0]
    annotations = first.annotations.new_empty(len(photos), *first.annotations.shape[2:])
    global_vectors = first.global_vectors.new_empty(len(photos), first.global_vectors.shape[2])
    begin = 0
    for store in stores:
        end = begin + len(store.annotations)
        here = (photos >= begin) & (photos < end)
        annotations[here] = store.annotations[photos[here] - begin, views[here]]
        global_vectors[here] = store.global_vectors[photos[here] - begin, views[here]]
        begin = end
    return Features(annotations, global_vectors)


def map_file(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Return a half-precision tensor backed by a file, made at full length if missing.

    Raises OSError (a full disk, say).
    """
    count = torch.Size(shape).numel()
    if hasattr(os, "posix_fallocate"):  # now: writing to a mapped page on a full disk would kill the process
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * count)
    return torch.from_file(str(path), shared=True, size=count, dtype=torch.float16).view(shape)
