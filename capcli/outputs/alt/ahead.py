"""Looking for what comes next in a text, in linear time altogether."""

from __future__ import annotations

import re


class Ahead:
    """Find what comes next after positions that only grow: what was found ahead is not looked for again."""

    def __init__(self, text: str) -> None:
        """Begin with a text."""
        self.text = text
        self.found: dict[str, re.Match[str] | None] = {}

    def __call__(self, pattern: str, begin: int) -> re.Match[str] | None:
        """Return where a pattern comes first from a position on; None where it comes no more."""
        if pattern not in self.found or ((known := self.found[pattern]) and known.start() < begin):
            self.found[pattern] = re.compile(pattern).search(self.text, begin)
        return self.found[pattern]
