"""Reading a person's sentence over a photo: how likely each word is, and where the model looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from capcli.captioner import Captioner
from capcli.explaining.doubting import Judge, Noun
from capcli.images.decode import Source, name_of, open_square_and_upright, to_pixels
from capcli.model.vocabulary import END, NEVER_PRINTED, PAD, SPECIAL_WORDS, START, UNKNOWN, tokenize
from capcli.results import AttentionMap, Candidate, Caption, HasBest

DOUBTED_BELOW = math.log(1 / 2)  # of a word's gain: the photo halves its probability over a blank picture
# In fit, beside the gain per word, so that neither short nor long sentences are ahead. Over right captions of 180 dev
# photos the correlation of fit and length is 0.03; of the gain it is 0.68, of the gain per word -0.21.
AGREEMENT_COUNTS = 2.0
AT_ONCE = 64  # sentences read together


@dataclass(frozen=True, eq=False)
class Explanation(HasBest):
    """Hold a sentence as the model reads it, with the attributes of a caption.

    caption: with the sentence as only candidate. A word not in the vocabulary is read as `<unk>`, with the
        log-probability of any unknown word.
    unknown: per word, whether it is one of these.
    gains: per word and the end, in nats over a blank picture; doubted below DOUBTED_BELOW.
    favourites, favourite_log_probs: per word and the end, the model's own choice.
    nouns: per word and the end, what is known of it if a noun, else None.
    agreement: the sentence's cosine with the photo, −1 to 1; None if the checkpoint cannot compare them.
    """

    caption: Caption
    unknown: tuple[bool, ...]
    gains: tuple[float, ...]
    favourites: tuple[str, ...]
    favourite_log_probs: tuple[float, ...]
    nouns: tuple[Noun | None, ...]
    agreement: float | None = None

    @property
    def best(self) -> Candidate:
        """Return the sentence."""
        return self.caption.best

    @property
    def path(self) -> str:
        """Return the image's path, as given."""
        return self.caption.path

    @property
    def gain(self) -> float:
        """Return the sum of gains."""
        return sum(self.gains)

    @property
    def doubted(self) -> tuple[bool, ...]:
        """Return per word and the end whether the photo speaks against it; unknown words are judged by kind alone."""
        least = [-math.inf if unknown else DOUBTED_BELOW for unknown in (*self.unknown, False)]
        return tuple(
            gain < low if noun is None else noun.is_doubted(gain, low)
            for gain, low, noun in zip(self.gains, least, self.nouns, strict=True)
        )

    @property
    def rather(self) -> tuple[str, ...]:
        """Return per word and the end what to say for this photo; the same word if nothing is better."""
        return tuple(
            favourite if noun is None else noun.better or word
            for word, favourite, noun in zip(
                (*self.words, SPECIAL_WORDS[END]), self.favourites, self.nouns, strict=True
            )
        )

    @property
    def fit(self) -> float:
        """Return how well the sentence fits the photo, whatever its length; higher is better.

        The gain per word, counting the end, plus AGREEMENT_COUNTS times the agreement.
        """
        return self.gain / len(self.gains) + AGREEMENT_COUNTS * (self.agreement or 0.0)


def explain(captioner: Captioner, image: Source, sentences: Sequence[str], photo_side: int = 0) -> list[Explanation]:
    """Read sentences over an image by teacher forcing, and return their explanations in order.

    image: as for `Captioner.caption`.
    sentences: one or more, each with a word at least.
    photo_side: longest side in pixels of photos kept in captions; 0 keeps none.

    Raises ImageError for the image, ValueError for a sentence without a word, and TypeError for what is no image.
    """
    if isinstance(sentences, str):
        raise TypeError("sentences is one; put it into a list")
    for sentence in sentences:
        if not tokenize(sentence):
            raise ValueError(f"{sentence!r} has no word")
    engine, vocabulary = captioner.engine, captioner.vocabulary
    square, photo = open_square_and_upright(image, captioner.config.image_size, photo_side)
    features = engine.encode(to_pixels(square)[None])
    judge = Judge(captioner, features)
    found: list[Explanation] = []
    for begin in range(0, len(sentences), AT_ONCE):
        some = sentences[begin : begin + AT_ONCE]
        ids = [vocabulary.encode(sentence) for sentence in some]
        words = padded(ids)
        reading, blank = engine.read(features, words), engine.read(captioner.blank, words)
        agreements = None if captioner.config.agreement_size is None else engine.agree(features, words[None, :, 1:])[0]
        added = captioner.added(features, words[None, :, 1:], captioner.options)
        for row, sentence in enumerate(some):
            length = len(ids[row])
            each, log_probs = read_logits(reading.logits[0, row, : length + 1], ids[row])
            each_blank, blank_log_probs = read_logits(blank.logits[0, row, : length + 1], ids[row])
            favourites = log_probs.argmax(1)
            log_prob = float(each.sum())
            gains = (each - each_blank).tolist()
            candidate = Candidate(
                text=sentence,
                words=tuple(tokenize(sentence)),
                word_log_probs=tuple(each.tolist()),
                log_prob=log_prob,
                score=log_prob / (length + 1) ** captioner.options.length_penalty
                + (0.0 if added is None else float(added[0, row])),
                attention_map=attention_of(captioner, reading.attention, reading.gates, row, length),
            )
            found.append(
                Explanation(
                    caption=Caption(name_of(image), (candidate,), sum(gains), photo=photo, kinds=judge.shown),
                    unknown=tuple(index == UNKNOWN for index in ids[row]),
                    gains=tuple(gains),
                    favourites=tuple(vocabulary.words[index] for index in favourites.tolist()),
                    favourite_log_probs=tuple(log_probs.max(1).tolist()),
                    nouns=judge.nouns(candidate.words, ids[row], log_probs, blank_log_probs),
                    agreement=None if agreements is None else float(agreements[row]),
                )
            )
    return found


def padded(ids: Sequence[list[int]]) -> np.ndarray:
    """Return sentences as (sentences, 1 + words), from `<start>` on."""
    words = np.full((len(ids), 1 + max(map(len, ids))), PAD)
    for row, sentence_ids in enumerate(ids):
        words[row, : 1 + len(sentence_ids)] = [START, *sentence_ids]
    return words


def attention_of(
    captioner: Captioner, attention: np.ndarray | None, gates: np.ndarray | None, row: int, length: int
) -> AttentionMap | None:
    """Return where the model looked at each word of a sentence; None without attention.

    attention: (1, sentences, words, locations).
    gates: (1, sentences, words), or None.
    row: the sentence's.
    length: in words.
    """
    if attention is None:
        return None
    return AttentionMap(
        attention[0, row, :length].reshape(length, *captioner.config.grid).copy(),
        None if gates is None else gates[0, row, :length].copy(),
        captioner.config.encoder_kind.cell_offset,
    )


def read_logits(logits: np.ndarray, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probabilities of a sentence's words and `<end>`, (words + 1), and of all words, (…, vocabulary).

    logits: (words + 1, vocabulary).
    ids: of the sentence.
    """
    # Without words that captions never say, so that others compete as in a caption.
    targets, rows = np.array([*ids, END]), np.arange(len(ids) + 1)
    any_unknown = log_softmax(logits)[:, UNKNOWN]
    printed = logits.copy()
    printed[:, NEVER_PRINTED] = -np.inf
    log_probs = log_softmax(printed)
    return np.where(targets == UNKNOWN, any_unknown, log_probs[rows, targets]), log_probs


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities, float64, of logits (rows, words)."""
    shifted = logits.astype(float) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def ranked(explanations: Sequence[Explanation]) -> list[Explanation]:
    """Sort by fit, best first."""
    # Not by score or gain: rare words lower the one, and every right word adds to the other, whatever else is wrong.
    return sorted(explanations, key=lambda e: -e.fit)
