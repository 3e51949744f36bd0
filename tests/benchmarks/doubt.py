"""Which nouns does `capcli explain` doubt: those of people's captions, and those put in their place?

    python tests/benchmarks/doubt.py FLICKR8K COCO [--model FOLDER] [--number N] [--choose]

Takes a caption that a person wrote for each of N dev photos of each data set, and the same with one noun exchanged for
another, which the vocabulary has about as often and in the same number, and which nobody says of this photo.
Prints how many of the right nouns are doubted, how many of the exchanged ones, and how often the right sentence ranks
above the other. Photos come from the end of a shuffled list; with --choose from its beginning, for different sums of
gain and standing below which a noun is doubted.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from capcli.captioner import Captioner
from capcli.explaining import doubting
from capcli.explaining.reading import Explanation, explain, ranked
from capcli.model.english import stem
from capcli.model.vocabulary import tokenize
from capcli.outputs.keywords import nouns_in
from capcli.training.data.datasets import Photo, read_data_set

SUMS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
AS_OFTEN = 1.5  # at most so many times further up or down in the list of nouns
Read = tuple[Explanation, Explanation, int]  # right, exchanged, and where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--model")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--choose", action="store_true")
    options = parser.parse_args()
    captioner = Captioner.load(options.model)
    print(f"{'':28} {'sentences':>9} {'right nouns':>11} {'doubted':>7} {'exchanged doubted':>17} {'ranked right':>12}")
    everything: list[Read] = []
    for data in options.data:
        photos = sorted(read_data_set(data).split("dev"), key=lambda photo: photo.path)
        random.Random(31).shuffle(photos)
        begun = time.process_time()
        some = photos[: options.number] if options.choose else photos[-options.number :]
        found = list(read_both(captioner, some))
        everything += found
        show(Path(data).name, found)
        print(
            f"{'':28} {(time.process_time() - begun) / len(found) / 2:.2f} s of a core for each sentence and its photo"
        )
    show("all", everything)
    show("without kinds", without(everything, ruled_out=False))
    show("without agreement", without(everything, standing=None))
    show("without both", without(everything, standing=None, ruled_out=False))
    for doubting.LEAST_EVIDENCE in SUMS if options.choose else ():
        show(f"below {doubting.LEAST_EVIDENCE}", everything)


def read_both(captioner: Captioner, photos: Sequence[Photo]) -> Iterator[Read]:
    """Yield for each photo a person's caption and the one with another noun, as they are read, and the noun's place."""

    nouns = [word for word in captioner.vocabulary.words if list(nouns_in([word]))]
    for photo in photos:
        draw = random.Random(photo.path.name)
        words = tokenize(draw.choice(photo.captions))
        places = [place for place, noun in nouns_in(words) if noun in nouns]
        if not places:
            continue
        place = draw.choice(places)
        other = list(words)
        other[place] = draw.choice(others(words[place], nouns, said(photo)))
        right, wrong = explain(captioner, photo.path, [" ".join(words), " ".join(other)])
        yield right, wrong, place


def others(noun: str, nouns: list[str], said: set[str]) -> list[str]:
    """Return nouns that are about as frequent, of the same number, and which nobody said."""
    rank, plural = nouns.index(noun), noun.endswith("s")
    near = nouns[int(rank / AS_OFTEN) : int(rank * AS_OFTEN) + 25]
    return [other for other in near if other.endswith("s") == plural and not {other, stem(other)} & said]


def said(photo: Photo) -> set[str]:
    """Return the words of all captions of a photo, and their stems."""
    words = {word for caption in photo.captions for word in tokenize(caption)}
    return words | set(map(stem, words))


def without(found: Sequence[Read], **changes: object) -> list[Read]:
    """Return what was read, as if something were not known of its nouns."""

    def change(e: Explanation) -> Explanation:
        return replace(e, nouns=tuple(noun and replace(noun, **changes) for noun in e.nouns))

    return [(change(right), change(wrong), place) for right, wrong, place in found]


def show(name: str, found: Sequence[Read]) -> None:
    """Print a line of figures."""
    right = [doubt for e, _, _ in found for doubt, noun in zip(e.doubted, e.nouns, strict=True) if noun]
    exchanged = np.mean([wrong.doubted[place] for _, wrong, place in found])
    above = np.mean([ranked([wrong, right])[0] is right for right, wrong, _ in found])
    print(f"{name:28} {len(found):9} {len(right):11} {np.mean(right):7.1%} {exchanged:17.1%} {above:12.1%}", flush=True)


if __name__ == "__main__":
    main()
