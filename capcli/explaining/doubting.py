"""What speaks for and against a sentence's nouns: other nouns in their place, and what the encoder tells apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from capcli.captioner import Captioner
from capcli.model.english import names
from capcli.model.vocabulary import UNKNOWN
from capcli.outputs.keywords import nouns_in
from capcli.results import Kind

TRIED = 100  # the vocabulary's commonest nouns, each of which is tried in a noun's place
FAVOURITES = 5  # nouns that the decoder finds likeliest in its place, which are tried too
AROUND = 10  # words on each side of a noun that are read with it, so that long sentences take no more for each noun
MOST_GAIN = 3.0  # either way, of what a noun's gain counts: what lies beyond is the decoder's temper
# A noun is doubted whose gain and standing add up to less. Chosen by tests/benchmarks/doubt.py --choose: over 200
# sentences this doubts 7 % of the right nouns and 72 % of the exchanged ones, over 200 others 8 % and 70 %. Both parts
# are measured against what the same model says elsewhere, so that another decoder needs no other limit: one of another
# vocabulary, with the same agreement, doubted 8 % and 69 % below 0.6.
LEAST_EVIDENCE = 0.5
# From this probability on the encoder is sure of a kind, and then a kind that has less than the other is ruled out, if
# the sentence says nothing of the sure one. Chosen over 500 dev photos, where it held for 14 of 1515 right nouns and
# for 73 of as many exchanged ones.
SURE_FROM, RULED_OUT_BELOW = 0.5, 0.005
SHARED_BY = 3  # kinds that have a broader word in common, such as `bird`, before it counts as a kind of its own


@dataclass(frozen=True)
class Noun:
    """Hold what is known of a noun in its place.

    standing: how much better the photo agrees with the sentence than it does with other nouns in this one's place, in
        standard deviations from their mean; None where agreement cannot tell.
    ruled_out: whether it names a kind that the photo does not show, as the encoder is sure of another one.
    better: the noun that the photo speaks for most in its place, of those that are likely there; None without any.
    """

    standing: float | None = None
    ruled_out: bool = False
    better: str | None = None

    def is_doubted(self, gain: float, least_gain: float) -> bool:
        """Return whether the photo speaks against the noun.

        gain: how much more likely the photo makes it than a blank picture does.
        least_gain: the gain that it needs where agreement cannot tell.
        """
        if self.ruled_out:
            return True
        if self.standing is None:
            return gain < least_gain
        return bool(clipped(gain) + self.standing < LEAST_EVIDENCE)


def clipped(gain: Any) -> Any:
    """Return gains, none beyond MOST_GAIN either way."""
    return np.clip(gain, -MOST_GAIN, MOST_GAIN)


class Judge:
    """Judge the nouns of sentences over one photo."""

    def __init__(self, captioner: Captioner, features: Any) -> None:
        """Prepare what all sentences share.

        captioner: whose model judges.
        features: its engine's, of the photo alone.
        """
        self.captioner, self.features = captioner, features
        self.words = captioner.vocabulary.words
        self.is_noun = np.array([any(nouns_in([word])) for word in self.words])
        self.common = np.flatnonzero(self.is_noun)[:TRIED]
        self.kinds = captioner.kinds.names if captioner.kinds else ()
        self.shown: tuple[Kind, ...] = ()
        self.probabilities = np.zeros(0)
        if captioner.kinds:
            vectors = captioner.engine.vectors(features)
            self.shown = captioner.kinds.told(vectors)[0]
            self.probabilities = captioner.kinds.probabilities(vectors)[0]
        shared = Counter(word for kind in self.kinds for word in kind.broader)
        named = [kind.name for kind in self.kinds] + [word for word, n in shared.items() if n >= SHARED_BY]
        self.names = [name.split() for name in named]

    def nouns(
        self, words: Sequence[str], ids: Sequence[int], log_probs: np.ndarray, blank: np.ndarray
    ) -> tuple[Noun | None, ...]:
        """Return what is known of each noun of a sentence, and None in the place of other words and of the end.

        words, ids: of the sentence.
        log_probs: (words + 1, vocabulary), of each word in each place.
        blank: the same of a blank picture.
        """
        found: list[Noun | None] = [None] * (len(words) + 1)
        sure = [i for i in np.flatnonzero(self.probabilities >= SURE_FROM) if not self.kinds[i].is_said(words)]
        for place, noun in nouns_in(words):
            likely = log_probs[place].argsort()[::-1]
            likely = likely[self.is_noun[likely] & ~np.isin(likely, ids)][:FAVOURITES]
            standings = self.standings(ids, place, likely)
            standing = better = None
            if standings is not None:
                standing = float(standings[0])
                here = [ids[place], *likely]
                evidence = clipped(log_probs[place, here] - blank[place, here]) + standings
                better = self.words[likely[evidence[1:].argmax()]] if evidence[1:].max() > evidence[0] else None
            ruled_out = bool(sure) and self.is_ruled_out(noun.split())
            found[place] = Noun(standing, ruled_out, self.kinds[sure[0]].name if ruled_out else better)
        return tuple(found)

    def standings(self, ids: Sequence[int], place: int, likely: np.ndarray) -> np.ndarray | None:
        """Return the standing of a sentence's noun and of likely ones in its place, or None if agreement cannot tell.

        ids: of the sentence's words.
        place: the noun's, in the sentence.
        likely: ids of nouns.
        """
        config = self.captioner.config
        if config.agreement_size is None or ids[place] == UNKNOWN or not len(likely):
            return None
        first = max(0, place - AROUND)
        around = ids[first : place + AROUND + 1]
        tried = np.tile(np.array(around), (1, 1 + len(likely) + len(self.common), 1))
        tried[0, :, place - first] = [ids[place], *likely, *self.common]
        agreements = self.captioner.engine.agree(self.features, tried)[0].astype(float)
        others = agreements[1 + len(likely) :]
        if not others.std() > 0:  # a taught decoder's photos and words are none that agreement knows
            return None
        standings: np.ndarray = (agreements[: 1 + len(likely)] - others.mean()) / others.std()
        return standings

    def is_ruled_out(self, noun: list[str]) -> bool:
        """Return whether a noun names a kind, and all that it may name are next to impossible."""
        if not any(len(name) == len(noun) and names(noun, name) for name in self.names):
            return False
        meant = [kind.is_said(noun) for kind in self.kinds]
        return bool(self.probabilities[meant].sum() < RULED_OUT_BELOW)
