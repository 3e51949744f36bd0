"""What a request will cost a core, in milliseconds, estimated from measurements of the bundled model."""

from __future__ import annotations

from collections.abc import Sequence

from capcli.decoding.options import DecodingOptions
from capcli.explaining.doubting import AROUND, FAVOURITES, TRIED
from capcli.images.decode import memory_needed_to_open
from capcli.model.vocabulary import tokenize
from capcli.outputs.keywords import nouns_in

DECODED = 300_000  # bytes of memory that decoding fills per millisecond: 450,000 for PNG, 170,000 for WebP
SAID = 1  # words per millisecond, over all sentences searched or drawn
COMPARED = 80  # words per millisecond, over all sentences with another noun
READ = 0.6  # words per millisecond, over all sentences read over a photo


def cost_of_opening(image: bytes, size: int, max_pixels: int | None = None) -> int:
    """Return the cost of decoding an encoded image.

    size, max_pixels: as in `open_square`.

    Raises ImageError if its header alone is refused.
    """
    return round(memory_needed_to_open(image, size, max_pixels) / DECODED)


def cost_of_caption(options: DecodingOptions, num: int) -> int:
    """Return the most that an image's captions cost. num: how many, 1 or more."""
    return round(options.found(num) * options.max_length * max(1, options.attention_samples) / SAID)


def cost_of_reading(sentences: Sequence[str]) -> int:
    """Return the cost of reading sentences over an image, each as long as the longest, and of comparing nouns."""
    words = [tokenize(sentence) for sentence in sentences]
    longest, nouns = max(map(len, words)), sum(1 for each in words for _ in nouns_in(each))
    compared = nouns * (1 + FAVOURITES + TRIED) * min(longest, 2 * AROUND + 1)
    return round(len(sentences) * longest / READ + compared / COMPARED)
