"""Read a person's sentence over a photo: how likely the model finds each word, and where it looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capcli.captioner import BLANK, Captioner
from capcli.images.decode import Source, name_of, open_square_and_upright, to_pixels
from capcli.model.vocabulary import END, NEVER_PRINTED, PAD, START, UNKNOWN, tokenize
from capcli.results import AttentionMap, Candidate, Caption, HasBest

DOUBTED_BELOW = math.log(1 / 2)  # of a word's gain: the photo halves its probability, compared with a blank picture
AT_ONCE = 64  # sentences read together


@dataclass(frozen=True, eq=False)
class Explanation(HasBest):
    """Hold a sentence as the model reads it; its attributes are those that it would have as a caption, its gain too.

    caption: the sentence as the only candidate for the image. A word that the vocabulary lacks is read as `<unk>` and
        counts with the log-probability of any unknown word.
    unknown: for each word, whether it is such a word.
    gains: for each word and the sentence's end, how much more likely the photo makes it than a blank picture does, as
        a difference of log-probabilities; below DOUBTED_BELOW it is doubted.
    favourites, favourite_log_probs: for each word and the end, the model's own choice in its place.
    """

    caption: Caption
    unknown: tuple[bool, ...]
    gains: tuple[float, ...]
    favourites: tuple[str, ...]
    favourite_log_probs: tuple[float, ...]

    @property
    def best(self) -> Candidate:
        """Return the sentence itself."""
        return self.caption.best

    @property
    def path(self) -> str:
        """Return the image's path, as it was given."""
        return self.caption.path

    @property
    def gain(self) -> float:
        """Return the gains' sum."""
        return sum(self.gains)

    @property
    def doubted(self) -> tuple[bool, ...]:
        """Return for each word and the sentence's end whether the photo speaks against it."""
        return tuple(gain < DOUBTED_BELOW for gain in self.gains)


def explain(captioner: Captioner, image: Source, sentences: Sequence[str], photo_side: int = 0) -> list[Explanation]:
    """Read sentences over one image by teacher forcing; return an explanation for each, in their order.

    captioner: whose model reads.
    image: as `Captioner.caption` takes one.
    sentences: one or more, each with a word at least.
    photo_side: the captions keep the photo, with no side longer than this in pixels; 0 keeps none.

    Raises ImageError for the image, ValueError for a sentence without a word, and TypeError for what is no image.
    """
    if isinstance(sentences, str):
        raise TypeError("sentences is one; put it into a list")
    for sentence in sentences:
        if not tokenize(sentence):
            raise ValueError(f"{sentence!r} has no word")
    engine, vocabulary = captioner.engine, captioner.vocabulary
    square, photo = open_square_and_upright(image, captioner.config.image_size, photo_side)
    pixels = to_pixels(square)
    features = engine.encode(np.stack([pixels, np.full_like(pixels, BLANK)]))
    found: list[Explanation] = []
    for begin in range(0, len(sentences), AT_ONCE):
        some = sentences[begin : begin + AT_ONCE]
        ids = [vocabulary.encode(sentence) for sentence in some]
        words = np.full((len(ids), 1 + max(map(len, ids))), PAD)
        for row, sentence_ids in enumerate(ids):
            words[row, : 1 + len(sentence_ids)] = [START, *sentence_ids]
        reading = engine.read(features, words)
        added = captioner.added(features, np.stack([words[:, 1:]] * 2), captioner.options)
        for row, sentence in enumerate(some):
            length = len(ids[row])
            each, favourite_log_probs, favourites = read_logits(reading.logits[0, row, : length + 1], ids[row])
            blank, _, _ = read_logits(reading.logits[1, row, : length + 1], ids[row])
            log_prob = float(each.sum())
            gains = (each - blank).tolist()
            attention_map = None
            if reading.attention is not None:
                attention_map = AttentionMap(
                    reading.attention[0, row, :length].reshape(length, *captioner.config.grid).copy(),
                    None if reading.gates is None else reading.gates[0, row, :length].copy(),
                    captioner.config.encoder_kind.cell_offset,
                )
            candidate = Candidate(
                text=sentence,
                words=tuple(tokenize(sentence)),
                word_log_probs=tuple(each.tolist()),
                log_prob=log_prob,
                score=log_prob / (length + 1) ** captioner.options.length_penalty
                + (0.0 if added is None else float(added[0, row])),
                attention_map=attention_map,
            )
            found.append(
                Explanation(
                    caption=Caption(name_of(image), (candidate,), sum(gains), photo=photo),
                    unknown=tuple(index == UNKNOWN for index in ids[row]),
                    gains=tuple(gains),
                    favourites=tuple(vocabulary.words[index] for index in favourites.tolist()),
                    favourite_log_probs=tuple(favourite_log_probs.tolist()),
                )
            )
    return found


def read_logits(logits: np.ndarray, ids: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log-probabilities of a sentence's words and `<end>`, those of the likeliest words, and these words' ids.

    What captions never say is left out, so that known words compete as in a caption.

    logits: (words + 1, vocabulary).
    ids: of the sentence's words.
    """
    targets, rows = np.array([*ids, END]), np.arange(len(ids) + 1)
    any_unknown = log_softmax(logits)[:, UNKNOWN]
    printed = logits.copy()
    printed[:, NEVER_PRINTED] = -np.inf
    log_probs = log_softmax(printed)
    favourites = log_probs.argmax(1)
    each = np.where(targets == UNKNOWN, any_unknown, log_probs[rows, targets])
    return each, log_probs[rows, favourites], favourites


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, float64, from logits (rows, words)."""
    shifted = logits.astype(float) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def ranked(explanations: Sequence[Explanation]) -> list[Explanation]:
    """Sort by gain, the sentence first that the photo supports most.

    Not by score: rare words and long sentences cost log-probability whatever the photo shows.
    """
    return sorted(explanations, key=lambda e: -e.gain)
