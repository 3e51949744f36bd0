"""The options that several commands have, each declared once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.messages import fail


def finite(value: float | None) -> float | None:
    """For every option that takes a number with decimals: NaN and infinity compare and print as no number does."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def check_page(page: Path | None) -> Path | None:
    """`--html`: nothing but a page is to be replaced by one."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        fail(f"--html {page}: the name of a page must end in .html")
    return page


Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|USER/NAME[@REVISION]",
        help="Checkpoint to use: a folder, or a repository on the Hugging Face Hub.  [default: bundled, the one that "
        "came with capcli]",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Device to run on; auto picks a GPU if there is one.")
]
NoRepeat = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Never repeat a sequence of N words; 0 allows repeats.  [default: the checkpoint's]"
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        help="Number format to compute in; auto is bf16 where the processor or GPU has instructions for it, otherwise "
        "fp32.",
    ),
]
Beam = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Width of the beam search, in sentences; 1 is greedy search.  [default: the checkpoint's]",
    ),
]
MaxLength = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Stop after N words.  [default: the checkpoint's]")
]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        min=-10,
        max=10,
        metavar="ALPHA",
        callback=finite,
        help="α in score = log_prob / nᵅ, where n counts the words and <end>; 0 ranks by log_prob.  "
        "[default: the checkpoint's]",
    ),
]
Sample = Annotated[
    bool, typer.Option("--sample", help="Draw words at random, by their probability, instead of searching.")
]
Temperature = Annotated[
    float,
    typer.Option(
        min=0.01,
        metavar="T",
        callback=finite,
        help="With --sample: below 1 favours likely words, above 1 unlikely ones.",
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=1,
        metavar="P",
        callback=finite,
        help="With --sample: draw only from the likeliest words whose probabilities add up to P.",
    ),
]
Diversity = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="D",
        callback=finite,
        help="With --num: make the captions differ (diverse beam search, Vijayakumar et al. 2018); try 0.5.",
    ),
]
AttentionSamples = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="With hard attention: average over N sampled locations; 0 takes the likeliest one."
    ),
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Seed that makes random draws repeatable.", show_default=False)
]
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Run N images through the model at once.")]
Attention = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="For each image, write a folder into DIR: a picture per word, a contact sheet, and the weights as JSON.",
        show_default=False,
    ),
]
AttentionSize = Annotated[int, typer.Option(min=16, metavar="PIXELS", help="Longest side of each word's picture.")]
AttentionStyle = Annotated[
    str, typer.Option(metavar="heat|spotlight", help="Colour the places where the model looks, or darken the rest.")
]
AttentionScale = Annotated[
    str,
    typer.Option(
        metavar="word|caption",
        help="Scale each word's heat to its own maximum, or to the caption's, weighted by the gates.",
    ),
]
Smooth = Annotated[
    bool, typer.Option("--smooth/--no-smooth", help="Interpolate between the cells of the grid, or show them raw.")
]
Gif = Annotated[bool, typer.Option("--gif", help="With --attention: also write an animation.")]
Show = Annotated[bool, typer.Option("--show", help="Draw the attention in the terminal.")]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write one page with all photos and captions; pointing at a word shows where the model looked.",
        show_default=False,
        callback=lambda page: check_page(page),
    ),
]
