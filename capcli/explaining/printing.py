"""Explanations for a person, as lines and tables, and for programs, as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from capcli.explaining.reading import Explanation
from capcli.maps.folders import attention_record


def as_line(e: Explanation) -> str:
    """Return `gain<TAB>log_prob<TAB>sentence`, with the words that are doubted or unknown."""
    notes = []
    for name, marks in (("doubted", e.doubted), ("unknown", e.unknown)):
        words = [word for word, marked in zip(e.words, marks, strict=False) if marked]
        notes += [f"{name}: {', '.join(words)}"] if words else []
    return f"{e.gain:+.3f}\t{e.log_prob:.3f}\t{e.text}" + (f"\t({'; '.join(notes)})" if notes else "")


def as_table(e: Explanation) -> Iterator[str]:
    """Yield a line for each word and one for the sum.

    `?` marks what is doubted, and the line says what the model would rather say, unless it would say the same.
    """
    words = [*e.words, "(end)"]
    width = max(map(len, words))
    yield f"  {'':{width}}  {'prob':>7}  {'log_prob':>8}  {'photo':>7}"
    for index, (word, log_prob, gain) in enumerate(zip(words, e.word_log_probs, e.gains, strict=True)):
        note = ""
        if index < len(e.words) and e.unknown[index]:
            note = "not in the vocabulary: the probability is that of any unknown word"
        elif e.doubted[index] and (favourite := e.favourites[index].replace("<end>", "(end)")) != word:
            note = f"rather: {favourite} {math.exp(e.favourite_log_probs[index]):.0%}"
        line = f"{'?' if e.doubted[index] else ' '} {word:{width}}  {math.exp(log_prob):7.2%}  {log_prob:8.3f}"
        yield f"{line}  {factor(gain):>7}  {note}".rstrip()
    yield f"  {'':{width}}  {'':7}  {e.log_prob:8.3f}  {factor(e.gain):>7}"


def factor(gain: float) -> str:
    """Return a difference of log-probabilities as a factor with two digits."""
    times = math.exp(gain) if abs(gain) < 100 else math.inf if gain > 0 else 0.0
    return f"×{times:.0f}" if 10 <= times < 10000 else f"×{times:.2g}"


def as_row(e: Explanation) -> dict[str, Any]:
    """Return the record that attention.json holds, and more.

    Also `log_prob`, `score`, `gain` and `end_log_prob`, and for every word `gain`, `doubted`, `unknown` and the model's
    `favourite`.
    """
    row = attention_record(e.path, e.best)
    for index, word in enumerate(row["words"]):
        word["gain"], word["doubted"], word["unknown"] = round(e.gains[index], 4), e.doubted[index], e.unknown[index]
        word["favourite"] = {"word": e.favourites[index], "log_prob": round(e.favourite_log_probs[index], 4)}
    rest = {"log_prob": e.log_prob, "score": e.score, "gain": e.gain, "end_log_prob": e.word_log_probs[-1]}
    return row | {name: round(value, 4) for name, value in rest.items()}
