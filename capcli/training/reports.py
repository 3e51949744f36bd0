"""What a run says of each epoch."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import Console


class Example(NamedTuple):
    """A caption of a dev photo beside what a person wrote."""

    photo: str
    ours: str
    theirs: str


def report(console: Console, row: dict[str, Any], epochs: int, figure: str, examples: list[Example]) -> None:
    """Print a line for an epoch, one for each data set, and some captions.

    row: the epoch's in the log.
    epochs: how many the run has.
    figure: loss or reward.
    """

    def say(line: str) -> None:
        console.print(line, markup=False)

    say(f"epoch {row['epoch']}/{epochs}: {figure} {row[figure]:.3f}, {row['seconds']:.0f} s")
    for name, scores in row["dev"].items():
        figures = "  ".join(f"{key} {scores[key]:.1f}" for key in ("bleu_4", "rouge_l", "cider", "repetition"))
        say(f"  {name} dev: {figures}  distinct_words {scores['distinct_words']}")
    for example in examples:
        say(f"  {example.photo}: {example.ours}  (a person: {example.theirs})")
