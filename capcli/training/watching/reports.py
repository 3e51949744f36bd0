"""The lines that a run prints about each epoch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from rich.console import Console

from capcli.results import Candidate
from capcli.training.data.datasets import Photo


class Example(NamedTuple):
    """Hold what the model says of a dev photo, and with it what people say."""

    photo: Photo
    said: Candidate


def report(
    console: Console, row: dict[str, Any], epochs: int, figure: str, examples: list[Example], left: timedelta
) -> None:
    """Print a line about an epoch, one about each data set, and some captions.

    console: where to print.
    row: of the epoch in the log.
    epochs: how many the run has in all.
    figure: what the row has of the objective, loss or reward.
    examples: the captions.
    left: the time that the epochs to come will probably take.
    """

    def say(line: str) -> None:
        console.print(line, markup=False)

    line = f"epoch {row['epoch']}/{epochs}: {figure} {row[figure]:.3f}, {row['seconds']:.0f} s"
    say(f"{line}; about {left} left" if row["epoch"] < epochs else line)
    for name, scores in row["dev"].items():
        shown = [key for key in ("bleu_4", "rouge_l", "cider", "repetition") if key in scores]
        figures = "  ".join(f"{key} {scores[key]:.1f}" for key in shown)
        say(f"  {name} dev: loss {scores['loss']:.3f}  {figures}  distinct_words {scores['distinct_words']}")
    for photo, said in examples:
        say(f"  {photo.path.name}: {said.text}  (a person: {photo.captions[0]})")
