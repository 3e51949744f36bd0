"""A run's printed lines about each epoch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from rich.console import Console

from capcli.results import Candidate
from capcli.training.data.datasets import Photo


class Example(NamedTuple):
    """Hold the model's caption of a dev photo, and the photo with people's."""

    photo: Photo
    said: Candidate


def report(
    console: Console, row: dict[str, Any], epochs: int, figure: str, examples: list[Example], left: timedelta
) -> None:
    """Print a line about an epoch, one per data set, and some captions.

    row: the epoch's in the log.
    epochs: in the whole run.
    figure: the row's objective, loss or reward.
    left: estimated time for other epochs.
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
