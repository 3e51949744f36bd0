"""Words written in place of the model's, as `--replace couch=sofa` asks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from capcli.results import Caption, ImageError


class Replacements:
    """Replace words in captions' texts.

    The captions' `words` stay the model's: probabilities and attention belong to these.
    """

    def __init__(self, pairs: Iterable[str]) -> None:
        """Check the pairs.

        pairs: OLD=NEW each. OLD is one or more words as captions spell them; NEW is any text, or nothing.

        Raises ValueError for a pair without = or OLD, or a repeated OLD.
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
        # In one pass, so that nothing is replaced twice: a=b and b=a swap two words.
        self.old = re.compile(rf"(?<![\w-])({'|'.join(longest_first)})(?![\w-])( ?)") if longest_first else None

    def apply(self, text: str) -> str:
        """Return a text with its words replaced; a word replaced by nothing takes its space along."""

        def new(found: re.Match[str]) -> str:
            old, space = found.groups()
            return self.new[old] and self.new[old] + space

        return self.old.sub(new, text).rstrip() if self.old else text

    def reword(self, results: list[Caption | ImageError]) -> list[Caption | ImageError]:
        return [result if isinstance(result, ImageError) else self.reworded(result) for result in results]

    def reworded(self, caption: Caption) -> Caption:
        """Return a caption with reworded candidates and keywords."""
        candidates = tuple(replace(each, text=self.apply(each.text)) for each in caption.candidates)
        keywords = caption.keywords and tuple(dict.fromkeys(filter(None, map(self.apply, caption.keywords))))
        return replace(caption, candidates=candidates, keywords=keywords)
