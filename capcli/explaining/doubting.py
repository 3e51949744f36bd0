"""For and against a sentence's nouns: other nouns in their place, and the kinds that the encoder tells apart."""

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

TRIED = 100  # the vocabulary's commonest nouns, each tried in a noun's place
FAVOURITES = 5  # the decoder's likeliest nouns there, tried too
AROUND = 10  # words on each side read with a noun, so that long sentences take no more per noun
MOST_GAIN = 3.0  # the most that a noun's gain counts, either way: beyond it is the decoder's temper
# A noun is doubted if its gain and standing add up to less. Chosen by tests/benchmarks/doubt.py --choose: over 200
# sentences this doubts 7 % of right nouns and 72 % of exchanged ones, over 200 others 8 % and 70 %. Both parts are
# relative to what the same model says elsewhere, so another decoder needs no other limit: one of another vocabulary,
# with the same agreement, doubted 8 % and 69 % below 0.6.
LEAST_EVIDENCE = 0.5
# From the first probability on, the encoder is sure of a kind; kinds below the second are then ruled out, if the
# sentence does not name the sure one. Chosen over 500 dev photos, where this held for 14 of 1515 right nouns and 73 of
# as many exchanged ones.
SURE_FROM, RULED_OUT_BELOW = 0.5, 0.005
SHARED_BY = 3  # kinds that must share a broader word, such as `bird`, before it counts as a kind itself


@dataclass(frozen=True)
class Noun:
    """Hold what is known of a noun in its place.

    standing: how much better the photo agrees with it there than with other nouns, in standard deviations from their
        mean; None if agreement cannot tell.
    ruled_out: whether it names a kind not shown, as the encoder is sure of another.
    better: of the nouns likely there, the one that the photo favours; None without any.
    """

    standing: float | None = None
    ruled_out: bool = False
    better: str | None = None

    def is_doubted(self, gain: float, least_gain: float) -> bool:
        """Return whether the photo speaks against the noun.

        gain: in nats, over a blank picture.
        least_gain: needed where agreement cannot tell.
        """
        if self.ruled_out:
            return True
        if self.standing is None:
            return gain < least_gain
        return bool(clipped(gain) + self.standing < LEAST_EVIDENCE)


def clipped(gain: Any) -> Any:
    """Return gains limited to ±MOST_GAIN."""
    return np.clip(gain, -MOST_GAIN, MOST_GAIN)


class Judge:
    """Judge sentences' nouns over one photo."""

    def __init__(self, captioner: Captioner, features: Any) -> None:
        """Prepare what all sentences share.

        features: the captioner's engine's, of the photo alone.
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
        """Return what is known of a sentence's nouns, with None for other words and the end.

        words, ids: of the sentence.
        log_probs: (words + 1, vocabulary), of each word in each place.
        blank: the same for a blank picture.
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
        """Return the standing of a noun and of likely ones in its place; None if agreement cannot tell.

        ids: of the sentence.
        place: the noun's index.
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
        """Return whether a noun names kinds that are all next to impossible."""
        if not any(len(name) == len(noun) and names(noun, name) for name in self.names):
            return False
        meant = [kind.is_said(noun) for kind in self.kinds]
        return bool(self.probabilities[meant].sum() < RULED_OUT_BELOW)
