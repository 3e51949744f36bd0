"""What a sentence must not say, in ids of a vocabulary; nothing here needs PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from capcli.decoding.options import BeamOptions
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary

JOINING = ("and",)
ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Rules:
    """Hold what keeps words from coming next; both searches, PyTorch's and numpy's, follow it.

    banned: ids that never come.
    no_repeat: no sequence of this many words comes twice; 0 allows repeats.
    no_echo: whether no word follows itself, directly or with a joining word, and an article, between.
    joining, articles: ids of these words.
    """

    banned: tuple[int, ...] = ()
    no_repeat: int = 0
    no_echo: bool = False
    joining: tuple[int, ...] = ()
    articles: tuple[int, ...] = ()

    @classmethod
    def of(cls, options: BeamOptions, vocabulary: Vocabulary) -> Rules:
        """Return what the options ask for, with the ids of its words.

        options: words of its ban that the vocabulary does not have are passed over, as no sentence can have them.

        Raises ValueError if they leave no word.
        """
        banned, joining, articles = map(vocabulary.find, (options.ban, JOINING, ARTICLES))
        if len(set(banned)) >= len(vocabulary) - len(SPECIAL_WORDS):
            raise ValueError("all the words of the model are banned")
        return cls(banned, options.no_repeat, options.no_echo, joining, articles)
