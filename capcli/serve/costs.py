"""What a request will cost a core, in milliseconds: estimated beforehand, by what the bundled model has taken."""

from __future__ import annotations

from collections.abc import Sequence

from capcli.decoding.options import DecodingOptions
from capcli.explaining.doubting import AROUND, FAVOURITES, TRIED
from capcli.images.decode import memory_needed_to_open
from capcli.model.vocabulary import tokenize
from capcli.outputs.keywords import nouns_in

DECODED = 300_000  # bytes of memory that decoding fills in a millisecond: 450,000 of PNG, 170,000 of WebP
SAID = 1  # words in a millisecond, of all sentences that are searched or drawn
COMPARED = 80  # words in a millisecond, of all sentences with another noun
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
    """Return what it costs to read sentences over an image: as many words for each as the longest has.

    And for each noun, to compare those that are tried in its place.
    """
    words = [tokenize(sentence) for sentence in sentences]
    longest, nouns = max(map(len, words)), sum(1 for each in words for _ in nouns_in(each))
    compared = nouns * (1 + FAVOURITES + TRIED) * min(longest, 2 * AROUND + 1)
    return round(len(sentences) * longest / READ + compared / COMPARED)
