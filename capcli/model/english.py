"""The English that the code knows: function words, and the spelling of plurals."""

from __future__ import annotations

from collections.abc import Sequence

# Articles, pronouns, prepositions, conjunctions, auxiliaries, adverbs and numbers.
FUNCTION_WORDS = frozenset(
    """
    a about above across after again against ahead all almost alone along alongside already also although am amid
    amidst among amongst an and another any anything apart are around as aside at atop away backward backwards be
    because been before behind being below beneath beside besides between beyond both but by c can could d did do
    does doing done down downward during each eight either else even every everyone everything everywhere except few
    five for forward four from had halfway has have having he headfirst her here herself him himself his how i if in
    inside into is it its itself just last least less like many may me might more most much must my n near nearby
    neither next nine no none nor not nothing now o of off often on once one ones only onto or other others our out
    outside over own p past per quite rather really s same seven several she should sideways since six so some
    somebody someone something sooner st still such t ten than that the their them themselves then there these they
    this those though three through throughout to together too toward towards two u under underneath until up upon
    upright upside upside-down upward us v very via was we well were what when where which while whilst who whole
    whom whose why will with within without would you your 's 't
    """.split()
)

ENDINGS = ("ing", "es", "ed", "s")


def names(words: Sequence[str], name: Sequence[str]) -> bool:
    """Return whether a name of one or more words occurs in a sentence, singular or plural.

    words: of the sentence.
    name: in lower case.
    """
    *first, last = name
    forms = {last, f"{last}s", f"{last}es", last.removesuffix("s"), last.removesuffix("y") + "ies"}
    places = range(len(words) - len(name) + 1)
    return any(list(words[i : i + len(first)]) == first and words[i + len(first)] in forms for i in places)


def stem(word: str) -> str:
    """Return a word without its plural or verb ending, simply cut off: `runn` of `running`."""
    return next((word[: -len(end)] for end in ENDINGS if word.endswith(end) and len(word) > len(end) + 2), word)
