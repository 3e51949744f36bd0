"""The page of a training run, from its log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from capcli.training.data.datasets import Photo
from capcli.training.watching.charts import Chart, Line
from capcli.training.watching.watching import CaptionedPhoto, News, Said, Table

Rows = list[dict[str, Any]]  # one per epoch
MOST_SHOWN = 24  # epochs whose captions are kept; even, so that the first and last stay
SCORES = {
    "loss": "loss",
    "cider": "CIDEr",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "repetition": "repetition",
    "distinct_words": "distinct words",
}
CHARTED = ("cider", "bleu_4", "rouge_l")  # in one chart, as all are in percent
NOTE = (
    "The loss of training is a mean over the epoch, while weights change and units drop out; that of dev photos is "
    "measured after the epoch, without dropout. Scores and repetition are in percent."
)


def thin_out(log: Rows) -> None:
    """Drop the captions of every second epoch, except the first and last, if there are too many."""
    shown = [row for row in log if "examples" in row]
    if len(shown) > MOST_SHOWN:
        for row in shown[1::2]:
            del row["examples"]


def describe_run(
    name: str, log: Rows, epochs: int, objective: str, photos: Sequence[Photo], left: timedelta | None = None
) -> News:
    """Return a run's page content.

    log: of finished epochs; "examples" are captions of the photos, from `maps.shown.sentence`.
    epochs: of the whole run.
    objective: the log's training figure, loss or reward.
    left: estimated time for other epochs, or None.
    """
    sets = list(dict.fromkeys(name for row in log for name in row["dev"]))
    columns = {"epoch": [row["epoch"] for row in log], f"training/{objective}": [row[objective] for row in log]}
    for data_set in sets:
        for score, text in SCORES.items():
            columns[f"{data_set}/{text}"] = [row["dev"].get(data_set, {}).get(score) for row in log]
    columns["training/learning rate"] = [row.get("learning_rate") for row in log]
    columns["training/seconds"] = [row["seconds"] for row in log]
    done = len(log)
    status = f"epoch {done} of {epochs} is over" if done else f"epoch 1 of {epochs}"
    if left and done:
        status += f", about {left} left"
    return News(
        name=name,
        status=f"all {epochs} epochs are over" if done >= epochs else status,
        going=done < epochs,
        charts=charts_of(log, columns, epochs, objective, sets),
        note=NOTE,
        table=Table(list(columns), list(zip(*columns.values(), strict=True))),
        shown=captioned_photos(log, photos),
        what="Some dev photos",
    )


def charts_of(
    log: Rows, columns: dict[str, list[float | None]], epochs: int, objective: str, sets: Sequence[str]
) -> list[Chart]:
    """Return charts of figures.

    log, epochs, objective: see `describe_run`.
    columns: the table's.
    sets: with dev photos.
    """

    def line(name: str, column: str) -> Line:
        return Line(name, [(i, value) for i, value in enumerate(columns.get(column, ()), 1) if value is not None])

    def chart(title: str, lines: Iterable[Line], kept: int | None = None) -> Chart:
        return Chart(title, "epoch", epochs, [line for line in lines if line.finite], kept)

    training = line("training", f"training/{objective}")
    losses = [line(f"{data_set} dev", f"{data_set}/loss") for data_set in sets]
    charts = (
        [chart("Loss", [training, *losses])]
        if objective == "loss"
        else [chart("Reward", [training]), chart("Loss", losses)]
    )
    # Of equal epochs the last is kept, as in the loop.
    kept = max(log, key=lambda row: (row["cider"], row["epoch"]))["epoch"] if log else None
    for data_set in sets:
        lines = [line(SCORES[score], f"{data_set}/{SCORES[score]}") for score in CHARTED]
        charts.append(chart(f"Scores of {data_set} dev, %", lines, kept))
    charts.append(chart("Learning rate", [line("of the decoder", "training/learning rate")]))
    return [chart for chart in charts if chart.lines]


def captioned_photos(log: Rows, photos: Sequence[Photo]) -> list[CaptionedPhoto]:
    """Return photos with their captions, latest first."""
    told = [row for row in reversed(log) if "examples" in row]
    if not told:
        return []
    return [
        CaptionedPhoto(photo, [Said(f"epoch {row['epoch']}", row["examples"][i]) for row in told])
        for i, photo in enumerate(photos)
    ]
