"""What a request will cost a core, in milliseconds: estimated beforehand, by what the bundled model has taken."""

from __future__ import annotations

from collections.abc import Sequence

from capcli.decoding.options import DecodingOptions
from capcli.images.decode import memory_needed_to_open
from capcli.model.vocabulary import tokenize

DECODED = 300_000  # bytes of memory that decoding fills in a millisecond: 450,000 of PNG, 170,000 of WebP
SAID = 1  # words in a millisecond, of all sentences that are searched or drawn
READ = 0.6  # words in a millisecond, of all sentences that are read over a photo


def cost_of_opening(image: bytes, size: int, max_pixels: int | None = None) -> int:
    """Return what decoding an image costs.

    image: encoded.
    size, max_pixels: as `open_square` takes them.

    Raises ImageError for one that is refused by its head alone.
    """
    return round(memory_needed_to_open(image, size, max_pixels) / DECODED)


def cost_of_caption(options: DecodingOptions, num: int) -> int:
    """Return what the captions of an image cost at most. num: how many are wanted, 1 or more."""
    return round(options.found(num) * options.max_length * max(1, options.attention_samples) / SAID)


def cost_of_reading(sentences: Sequence[str]) -> int:
    """Return what it costs to read sentences over an image: as many words for each as the longest has."""
    return round(len(sentences) * max(len(tokenize(sentence)) for sentence in sentences) / READ)
