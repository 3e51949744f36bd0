"""Words that are written in place of the model's, as `--replace couch=sofa` asks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from capcli.results import Caption, ImageError


class Replacements:
    """Put other words into the texts of captions.

    What the model said stays in the captions' `words`: to these belong the probabilities, and the places that it
    looked at.
    """

    def __init__(self, pairs: Iterable[str]) -> None:
        """Check the pairs.

        pairs: each OLD=NEW. OLD is one or more words as captions spell them, NEW may be any text, or nothing.

        Raises ValueError for a pair without = or OLD, and for an OLD that comes twice.
        """
        self.new: dict[str, str] = {}
        for pair in pairs:
            old, equals, new = pair.partition("=")
            old = " ".join(old.split())
            if not (equals and old):
                raise ValueError(f"{pair!r} is not of the form OLD=NEW")
            if old in self.new:
                raise ValueError(f"{old!r} is to be replaced twice")
            self.new[old] = new
        longest_first = sorted(map(re.escape, self.new), key=len, reverse=True)
        # All at once, so that nothing that was put in is replaced again: a=b and b=a exchange two words.
        self.old = re.compile(rf"(?<![\w-])({'|'.join(longest_first)})(?![\w-])( ?)") if longest_first else None

    def apply(self, text: str) -> str:
        """Return a text with its words replaced; the space behind one goes with it if nothing takes its place."""

        def new(found: re.Match[str]) -> str:
            old, space = found.groups()
            return self.new[old] and self.new[old] + space

        return self.old.sub(new, text).rstrip() if self.old else text

    def reword(self, results: list[Caption | ImageError]) -> list[Caption | ImageError]:
        """Return results with other texts in their captions."""
        return [result if isinstance(result, ImageError) else self.reworded(result) for result in results]

    def reworded(self, caption: Caption) -> Caption:
        """Return a caption with other texts in its candidates, and other keywords."""
        candidates = tuple(replace(each, text=self.apply(each.text)) for each in caption.candidates)
        keywords = caption.keywords and tuple(dict.fromkeys(filter(None, map(self.apply, caption.keywords))))
        return replace(caption, candidates=candidates, keywords=keywords)
