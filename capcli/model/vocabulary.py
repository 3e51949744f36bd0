"""Sentences to words, words to ids and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

PAD, START, END, UNKNOWN = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*|'(?:s|t|re|ve|ll|d|m)\b")


def tokenize(sentence: str) -> list[str]:
    """Lower-case words without punctuation; hyphens stay inside a word, `'s` and its like stand alone."""
    return WORD.findall(sentence.lower().replace("’", "'"))


class Vocabulary:
    """The words a decoder can print, after the four special ones (`<pad>`, `<start>`, `<end>`, `<unk>`)."""

    def __init__(self, words: Sequence[str]) -> None:
        """words: all of them in the order of their ids. Raises ValueError if the special ones do not lead."""
        if tuple(words[: len(SPECIAL_WORDS)]) != SPECIAL_WORDS:
            raise ValueError(f"a vocabulary begins with {' '.join(SPECIAL_WORDS)}")
        if len(set(words)) != len(words):
            raise ValueError("a word stands twice in the vocabulary")
        self.words = list(words)
        self.ids = {word: index for index, word in enumerate(words)}

    @classmethod
    def build(cls, sentences: Iterable[str], min_count: int) -> Vocabulary:
        """Every word seen at least min_count times, the frequent first, ties in alphabetical order."""
        counts = Counter(word for sentence in sentences for word in tokenize(sentence))
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls([*SPECIAL_WORDS, *kept])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, sentence: str) -> list[int]:
        """The ids of a sentence's words, without `<start>` and `<end>`; words not known become `<unk>`."""
        return [self.ids.get(word, UNKNOWN) for word in tokenize(sentence)]

    def decode(self, ids: Iterable[int]) -> str:
        """The sentence of these ids; special words are left out and `'s` joins the word before it."""
        words = (self.words[index] for index in ids if index >= len(SPECIAL_WORDS))
        return " ".join(words).replace(" '", "'")
