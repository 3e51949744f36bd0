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
        fail(f"--html {page}: the name of a page ends in .html")
    return page


Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|USER/NAME[@REVISION]",
        help="Use this checkpoint: a folder, or a repository on the Hugging Face Hub. Without it, or with `bundled`, "
        "the one that came with capcli.",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Run on this device; auto takes a GPU where there is one.")
]
NoRepeat = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Never say the same N words in a row twice; 0 allows it.  [default: the checkpoint's]"
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        help="Compute in this number format; auto is bf16 where the processor or GPU multiplies such numbers itself, "
        "otherwise fp32.",
    ),
]
Beam = Annotated[
    int | None,
    typer.Option(
        min=1, help="Keep this many sentences while searching; 1 is greedy search.  [default: the checkpoint's]"
    ),
]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Stop after this many words.  [default: the checkpoint's]")]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        min=-10,
        max=10,
        callback=finite,
        help="α in score = log_prob / nᵅ, where n counts the words and <end>; 0 ranks by log_prob.  "
        "[default: the checkpoint's]",
    ),
]
Sample = Annotated[bool, typer.Option("--sample", help="Draw words by their probability instead of searching.")]
Temperature = Annotated[
    float,
    typer.Option(
        min=0.01, callback=finite, help="With --sample: below 1 favours probable words, above 1 improbable ones."
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=1,
        callback=finite,
        help="With --sample: draw only from the likeliest words that together reach this probability.",
    ),
]
Diversity = Annotated[
    float,
    typer.Option(
        min=0,
        callback=finite,
        help="With --num: make the captions differ (diverse beam search, Vijayakumar et al. 2018); try 0.5.",
    ),
]
AttentionSamples = Annotated[
    int,
    typer.Option(
        min=0, help="With hard attention: average over this many sampled locations; 0 takes the likeliest one."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Make random draws repeatable.", show_default=False)]
BatchSize = Annotated[int, typer.Option(min=1, help="Put this many images through the model together.")]
Attention = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write a folder per image into DIR: a picture for each word, a contact sheet, and the weights as JSON.",
        show_default=False,
    ),
]
AttentionSize = Annotated[int, typer.Option(min=16, metavar="PIXELS", help="Longest side of a word's picture.")]
AttentionStyle = Annotated[
    str, typer.Option(metavar="heat|spotlight", help="Colour where the model looks, or darken the rest of the photo.")
]
AttentionScale = Annotated[
    str,
    typer.Option(
        metavar="word|caption",
        help="Draw each word at full strength, or compare it with the caption's strongest word, gates applied.",
    ),
]
Smooth = Annotated[bool, typer.Option("--smooth/--no-smooth", help="Interpolate, or show the raw cells.")]
Gif = Annotated[bool, typer.Option("--gif", help="With --attention: write an animation too.")]
Show = Annotated[bool, typer.Option("--show", help="Draw the attention in the terminal.")]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write one page with all photos and captions; its words show where the model looked.",
        show_default=False,
        callback=lambda page: check_page(page),
    ),
]
