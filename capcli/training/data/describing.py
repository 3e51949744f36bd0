"""What a data set holds, and what is odd about it: counts, words, splits, and a sheet of samples."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

from PIL import Image

from capcli.images.decode import open_image, open_upright
from capcli.maps.sheet import samples_sheet
from capcli.model.vocabulary import tokenize
from capcli.results import ImageError
from capcli.training.data.datasets import DataSet, Photo
from capcli.training.learning.options import MIN_COUNT

SAMPLES = 10
SAMPLE_SIDE = 480  # pixels
SHORTEST, LONGEST = 3, 40  # words of a caption that is not odd
SMALLEST, WIDEST = 64, 4  # pixels of a photo's shorter side, and its longer side over it
SHOWN = 3  # examples of what is odd


def describe_data(data_set: DataSet, progress: Callable[[int], object]) -> dict[str, Any]:
    """Return what a data set holds, as `capcli data --json` prints it.

    "odd" has, for each kind of oddity, what it concerns. Of each photo the head is read, and all of it only where
    another file has as many bytes.

    progress: is called with the number of photos just looked at.
    """
    captions = [tokenize(caption) for photo in data_set.photos for caption in photo.captions]
    words = Counter(word for caption in captions for word in caption)
    lengths, each = [len(caption) for caption in captions], [len(photo.captions) for photo in data_set.photos]
    odd: dict[str, list[str]] = defaultdict(list)
    for kind, what in [*odd_captions(data_set.photos), *odd_photos(data_set.photos, progress)]:
        odd[kind].append(what)
    return {
        "data": data_set.name,
        "photos": len(data_set.photos),
        "splits": dict(Counter(photo.split for photo in data_set.photos)),
        "captions": {"count": len(captions), "least": min(each), "mean": round(mean(each), 1), "most": max(each)},
        "words": {
            "different": len(words),
            "learnt": sum(count >= MIN_COUNT for count in words.values()),
            "shortest": min(lengths),
            "mean": round(mean(lengths), 1),
            "longest": max(lengths),
            "common": [word for word, _ in words.most_common(20)],
        },
        "odd": dict(odd),
        "samples": [{"path": str(photo.path), "captions": photo.captions} for photo in samples(data_set)],
    }


def samples(data_set: DataSet) -> list[Photo]:
    """Return SAMPLES photos, spread evenly over the data set."""
    photos, count = data_set.photos, min(SAMPLES, len(data_set.photos))
    return [photos[i * len(photos) // count] for i in range(count)]


def odd_captions(photos: list[Photo]) -> Iterator[tuple[str, str]]:
    """Yield what is odd about captions, and which: length, repetition, and the same captions in two splits."""
    heard: dict[tuple[str, ...], str] = {}
    for photo in photos:
        for caption in photo.captions:
            if len(tokenize(caption)) < SHORTEST:
                yield f"captions of fewer than {SHORTEST} words", f"{photo.path.name}: {caption}"
            elif len(tokenize(caption)) > LONGEST:
                yield f"captions of more than {LONGEST} words", f"{photo.path.name}: {caption}"
        if len(set(photo.captions)) < len(photo.captions):
            yield "photos with a caption twice", photo.path.name
        if len(photo.captions) > 1 and heard.setdefault(photo.captions, photo.split) != photo.split:
            yield "photos whose captions another split has too", photo.path.name


def odd_photos(photos: list[Photo], progress: Callable[[int], object]) -> Iterator[tuple[str, str]]:
    """Yield what is odd about photos, and which: unreadable, small, narrow, or there twice. progress: as above."""
    same_size: dict[int, list[Photo]] = defaultdict(list)
    for photo in photos:
        progress(1)
        name = str(photo.path)
        try:
            source = photo.source()
            with open(source, "rb") if isinstance(source, os.PathLike) else source as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
                with open_image(file, name) as image:
                    short, long = sorted(image.size)
        except ImageError as error:
            yield "photos that cannot be read", str(error)
            continue
        except Exception as error:  # Pillow's plugins raise almost anything on damaged files
            yield "photos that cannot be read", f"{name}: {' '.join(str(error).split())}"
            continue
        same_size[size].append(photo)
        if short < SMALLEST:
            yield f"photos with a side below {SMALLEST} pixels", f"{name}: {image.width}×{image.height}"
        elif long > WIDEST * short:
            yield f"photos more than {WIDEST} times as long as wide", f"{name}: {image.width}×{image.height}"
    seen: dict[bytes, Photo] = {}
    for alike in same_size.values():
        for photo in alike if len(alike) > 1 else []:
            first = seen.setdefault(digest_of(photo), photo)
            if first is not photo:
                kind = "twice" if first.split == photo.split else f"in {first.split} and in {photo.split}"
                yield f"photos that are there {kind}", f"{first.path} and {photo.path}"


def digest_of(photo: Photo) -> bytes:
    """Return a digest of a photo's file. Raises OSError."""
    source = photo.source()
    with open(source, "rb") if isinstance(source, os.PathLike) else source as file:
        return hashlib.sha256(file.read()).digest()


def as_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield a description as lines for a person. found: what `describe_data` returned."""
    splits = ", ".join(f"{split} {count:,}" for split, count in found["splits"].items())
    said, words = found["captions"], found["words"]
    yield f"{'photos':10}{found['photos']:>9,}  {splits}"
    yield f"{'captions':10}{said['count']:>9,}  {said['mean']:g} for each photo, {said['least']} to {said['most']}"
    yield (
        f"{'words':10}{words['different']:>9,}  {words['learnt']:,} of them {MIN_COUNT} times or more; "
        f"{words['mean']:g} in each caption, {words['shortest']} to {words['longest']}"
    )
    for kind, several in sorted(found["odd"].items(), key=lambda item: -len(item[1])):
        yield f"{'odd':10}{len(several):>9,}  {kind}, such as"
        yield from (f"{'':21}{what}" for what in several[:SHOWN])
    yield "\nsamples"
    for sample in found["samples"]:
        yield f"  {sample['path']}"
        yield from (f"    {caption}" for caption in sample["captions"])


def draw_samples(data_set: DataSet) -> Image.Image:
    """Return a sheet with samples of the photos and their captions. Raises ImageError for one that cannot be read."""
    tiles = [
        (open_upright(photo.source(), SAMPLE_SIDE), photo.path.name, photo.captions) for photo in samples(data_set)
    ]
    return samples_sheet(tiles)
