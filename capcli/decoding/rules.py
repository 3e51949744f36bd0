"""What sentences must not say, in ids of a vocabulary; PyTorch is not needed."""

from __future__ import annotations

from dataclasses import dataclass

from capcli.decoding.options import BeamOptions
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary, tokenize

JOINING = ("and",)
ARTICLES = ("a", "an", "the")


@dataclass(frozen=True)
class Rules:
    """Hold rules against next words; both PyTorch's and numpy's search follow them.

    banned: ids that never come.
    no_repeat: no sequence of this many words comes twice; 0 allows repeats.
    no_echo: whether no word may follow itself, directly or after a joining word and an article.
    joining, articles: ids of such words.
    """

    banned: tuple[int, ...] = ()
    no_repeat: int = 0
    no_echo: bool = False
    joining: tuple[int, ...] = ()
    articles: tuple[int, ...] = ()

    @classmethod
    def of(cls, options: BeamOptions, vocabulary: Vocabulary) -> Rules:
        """Return the options' rules in the vocabulary's ids.

        options: banned words not in the vocabulary are ignored, as no sentence can have them.

        Raises ValueError if no word is left, or a banned word is several.
        """
        for word in options.ban:
            if len(several := tokenize(word)) > 1:
                raise ValueError(
                    f"ban {word}: {len(several)} words to the model, {', '.join(several)}: ban one of them"
                )
        banned, joining, articles = map(vocabulary.find, (options.ban, JOINING, ARTICLES))
        if len(set(banned)) >= len(vocabulary) - len(SPECIAL_WORDS):
            raise ValueError("all the words of the model are banned")
        return cls(banned, options.no_repeat, options.no_echo, joining, articles)
