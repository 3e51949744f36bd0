"""Settings for what is written of a caption, alike in files, in metadata and in answers over HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from capcli.settings import setting

WRITE = "What to write"  # panel of help


@dataclass(frozen=True)
class Wording:
    """Hold settings for captions' text and keywords.

    replace: pairs OLD=NEW, see `replacements.Replacements`.
    keywords: the most per image; None for none, unless something else asks for them.
    min_keyword_score: a probability; None for that of `keywords.all_with_keywords`.
    min_confidence: below it a caption is left empty, a probability; None keeps all.
    """

    replace: tuple[str, ...] = setting(
        (),
        "Write NEW in place of the word or words OLD; without NEW, leave them out.",
        metavar="OLD=NEW",
        several=True,
        panel=WRITE,
    )
    keywords: int | None = setting(
        None,
        "Take up to N keywords, nouns and attributes, from the best captions.",
        1,
        100,
        told="none; 5 where --template or --fields has keywords",
        panel=WRITE,
    )
    min_keyword_score: float | None = setting(
        None, "With keywords: leave out those whose probability is below P.", 0, 1, metavar="P"
    )
    min_confidence: float | None = setting(
        None,
        "Leave a caption empty that is less likely right than P, a probability.",
        0,
        1,
        metavar="P",
        panel=WRITE,
    )
