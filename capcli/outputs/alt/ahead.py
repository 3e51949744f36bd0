"""Looking ahead in a text, in linear time overall."""

from __future__ import annotations

import re


class Ahead:
    """Find the next match after growing positions, never searching the same stretch twice."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: dict[str, re.Match[str] | None] = {}

    def __call__(self, pattern: str, begin: int) -> re.Match[str] | None:
        """Return a pattern's first match from a position on, or None."""
        if pattern not in self.found or ((known := self.found[pattern]) and known.start() < begin):
            self.found[pattern] = re.compile(pattern).search(self.text, begin)
        return self.found[pattern]
