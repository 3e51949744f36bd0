"""The lines that a run prints about each epoch."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import Console


class Example(NamedTuple):
    """Hold a caption of a dev photo beside a person's.

    photo: its file name.
    ours: the model's caption.
    theirs: a person's caption.
    """

    photo: str
    ours: str
    theirs: str


def report(console: Console, row: dict[str, Any], epochs: int, figure: str, examples: list[Example]) -> None:
    """Print a line about an epoch, one about each data set, and some captions.

    console: where to print.
    row: of the epoch in the log.
    epochs: how many the run has in all.
    figure: what the row has of the objective, loss or reward.
    examples: the captions.
    """

    def say(line: str) -> None:
        console.print(line, markup=False)

    say(f"epoch {row['epoch']}/{epochs}: {figure} {row[figure]:.3f}, {row['seconds']:.0f} s")
    for name, scores in row["dev"].items():
        figures = "  ".join(f"{key} {scores[key]:.1f}" for key in ("bleu_4", "rouge_l", "cider", "repetition"))
        say(f"  {name} dev: {figures}  distinct_words {scores['distinct_words']}")
    for example in examples:
        say(f"  {example.photo}: {example.ours}  (a person: {example.theirs})")
