"""The vocabulary: sentences to words, words to ids, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

PAD, START, END, UNKNOWN = range(4)
NEVER_PRINTED = [PAD, START, UNKNOWN]
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*|'(?:s|t|re|ve|ll|d|m)\b")


def tokenize(sentence: str) -> list[str]:
    """Return a sentence's words in lower case, without punctuation.

    Words keep inner hyphens; contractions such as `'s` and `'re` are separate words.
    """
    return WORD.findall(sentence.lower().replace("’", "'"))


class Vocabulary:
    """Hold a decoder's words, and translate between words and ids.

    words: by id; the special words `<pad>`, `<start>`, `<end>` and `<unk>` come first.
    ids: by word.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Make a vocabulary.

        words: in order of ids, the four special words first.

        Raises ValueError if special words do not come first, or a word repeats.
        """
        if tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
            raise ValueError(f"a vocabulary begins with {' '.join(SPECIAL_WORDS)}")
        if len(set(words)) != len(words):
            raise ValueError("a word occurs twice in the vocabulary")
        self.words = list(words)
        self.ids = {word: index for index, word in enumerate(words)}

    @classmethod
    def build(cls, sentences: Iterable[str], min_count: int) -> Vocabulary:
        """Return the vocabulary of frequent words, most frequent first, ties alphabetically.

        min_count: occurrences of a word, 1 or more.
        """
        counts = Counter(word for sentence in sentences for word in tokenize(sentence))
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls([*SPECIAL_WORDS, *kept])

    def __len__(self) -> int:
        return len(self.words)

    def find(self, words: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of words that a sentence can have, spelt exactly so."""
        return tuple(index for word in words if (index := self.ids.get(word, 0)) >= len(SPECIAL_WORDS))

    def encode(self, sentence: str) -> list[int]:
        """Return a sentence's ids, without `<start>` and `<end>`; unknown words become `<unk>`."""
        return [self.ids.get(word, UNKNOWN) for word in tokenize(sentence)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return ids as a sentence, without special words, contractions such as `'s` joined up."""
        words = (self.words[index] for index in ids if index >= len(SPECIAL_WORDS))
        return " ".join(words).replace(" '", "'")
