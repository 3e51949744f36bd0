"""Explanations as lines and tables for people, and as rows for programs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from capcli.explaining.reading import Explanation
from capcli.maps.folders import attention_record
from capcli.outputs.rows import kinds_in_row
from capcli.results import Kind


def as_line(e: Explanation) -> str:
    """Return `fit<TAB>gain<TAB>log_prob<TAB>sentence`, and doubted or unknown words."""
    notes = notes_on(e)
    return f"{e.fit:+.3f}\t{e.gain:+.3f}\t{e.log_prob:.3f}\t{e.text}" + (f"\t({'; '.join(notes)})" if notes else "")


def notes_on(e: Explanation) -> list[str]:
    """Say which words are doubted and which unknown, if any."""
    notes = []
    for name, marks in (("doubted", e.doubted), ("unknown", e.unknown)):
        words = [word for word, marked in zip(e.words, marks, strict=False) if marked]
        notes += [f"{name}: {', '.join(words)}"] if words else []
    return notes


def as_kinds(kinds: Sequence[Kind]) -> str:
    """Return a line of the kinds the encoder alone sees in a photo; empty if it is sure of none."""
    named = ", ".join(map(str, kinds))
    return named and f"the photo shows above all: {named}"


def as_cells(e: Explanation) -> Iterator[tuple[str, ...]]:
    """Yield cells for each word and the end: `?` or nothing, word, probability, its logarithm, gain as a factor, note.

    `?` marks doubt; the note says what would be said rather, unless the same.
    """
    for index, (word, log_prob, gain) in enumerate(zip((*e.words, "(end)"), e.word_log_probs, e.gains, strict=True)):
        doubted = e.doubted[index]
        yield (
            "?" if doubted else "",
            word,
            f"{math.exp(log_prob):.2%}",
            f"{log_prob:.3f}",
            factor(gain),
            note_on(e, index),
        )


def note_on(e: Explanation, index: int) -> str:
    """Return a note on a word or the end: unknown, or what would be said rather."""
    noun, rather = e.nouns[index], e.rather[index]
    if index < len(e.words) and e.unknown[index] and not (noun and noun.better):
        return "not in the vocabulary: the probability is that of any unknown word"
    if not e.doubted[index] or rather == (*e.words, "<end>")[index]:
        return ""
    likely = f" {math.exp(e.favourite_log_probs[index]):.0%}" if noun is None else ""
    return f"rather: {rather.replace('<end>', '(end)')}{likely}"


def as_table(e: Explanation) -> Iterator[str]:
    """Yield a line per word and one for the sum."""
    width = max(map(len, (*e.words, "(end)")))
    yield f"  {'':{width}}  {'prob':>7}  {'log_prob':>8}  {'photo':>7}"
    for mark, word, probability, log_prob, times, note in as_cells(e):
        yield f"{mark:1} {word:{width}}  {probability:>7}  {log_prob:>8}  {times:>7}  {note}".rstrip()
    yield f"  {'':{width}}  {'':7}  {e.log_prob:8.3f}  {factor(e.gain):>7}"


def factor(gain: float) -> str:
    """Return a difference of log-probabilities as a two-digit factor."""
    times = math.exp(gain) if abs(gain) < 100 else math.inf if gain > 0 else 0.0
    return f"×{times:.0f}" if 10 <= times < 10000 else f"×{times:.2g}"


def as_row(e: Explanation) -> dict[str, Any]:
    """Return attention.json's record, and more.

    Also `fit`, `log_prob`, `score`, `gain`, `end_log_prob`, `agreement` and `kinds`; for every word `gain`, `doubted`,
    `unknown`, the model's `favourite`, and `rather`, what to say in place of a doubted word, or null; for a noun its
    `standing` and whether it is `ruled_out`.
    """
    row = attention_record(e.path, e.best)
    for index, word in enumerate(row["words"]):
        word["gain"], word["doubted"], word["unknown"] = round(e.gains[index], 4), e.doubted[index], e.unknown[index]
        word["favourite"] = {"word": e.favourites[index], "log_prob": round(e.favourite_log_probs[index], 4)}
        word["rather"] = e.rather[index] if e.doubted[index] and e.rather[index] != e.words[index] else None
        if noun := e.nouns[index]:
            word["standing"] = None if noun.standing is None else round(noun.standing, 4)
            word["ruled_out"] = noun.ruled_out
    rest = {
        "fit": e.fit,
        "log_prob": e.log_prob,
        "score": e.score,
        "gain": e.gain,
        "end_log_prob": e.word_log_probs[-1],
    }
    row |= {name: round(value, 4) for name, value in rest.items()}
    row["agreement"] = None if e.agreement is None else round(e.agreement, 4)
    return row | {"kinds": kinds_in_row(e.caption.kinds)}
