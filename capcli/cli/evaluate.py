"""`capcli evaluate`: scores of a checkpoint on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.loading import decoding_options, load_captioner, require_attention
from capcli.cli.messages import fail, show_lines
from capcli.cli.options import BATCH_SIZE, AllowOutside, DecodingSet, ModelOptions, Only, grouped
from capcli.installing import install_line


@grouped
def evaluate(
    model: Annotated[ModelOptions, Only("model", "device", "precision")],
    decoding: DecodingSet,
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set, in any form that `capcli train` takes.")],
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Caption the photos of this split.")] = "dev",
    num: Annotated[
        int,
        typer.Option(min=1, max=1000, metavar="N", help="Also measure how much the N best captions of a photo differ."),
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every caption.")] = False,
    pointing: Annotated[
        Path | None,
        typer.Option(
            metavar="BOXES",
            help="Measure how often words for people point at a person, instead of scoring. BOXES is JSON, "
            '{"name.jpg": [[centre x, centre y, width, height], …]}, in fractions of the photo.',
            show_default=False,
        ),
    ] = None,
    allow_outside: AllowOutside = False,
) -> None:
    """Caption a data set's photos and score the captions.

    Prints BLEU, METEOR, ROUGE-L and CIDEr in percent, as pycocoevalcap computes them. METEOR and the Penn Treebank
    tokenizer need Java; without it METEOR is left out, and a simpler tokenizer moves the other scores by a few tenths.
    """
    from capcli.cli.process import one_core_per_batch
    from capcli.outputs.formats import dump
    from capcli.results import ImageError

    try:
        from capcli.training.data.datasets import DataError, read_data_set
        from capcli.training.measuring.evaluation import as_lines, evaluate_captioner

        data_set = read_data_set(data, allow_outside=allow_outside)
        photos = data_set.require(split)
        captioner = load_captioner(model)
        options = decoding_options(captioner, decoding, num)
        if pointing:
            require_attention(captioner, "--pointing")
        one_core_per_batch(captioner, options)
        typer.echo(f"captioning {len(photos)} photos on {captioner.device} in {captioner.precision}", err=True)
        if pointing:
            from capcli.training.measuring.pointing import as_lines as pointing_lines
            from capcli.training.measuring.pointing import measure_pointing, read_boxes

            points = measure_pointing(captioner, data_set, split, read_boxes(pointing), options, BATCH_SIZE)
            show_lines(dump(points, indent=1) if as_json else "\n".join(pointing_lines(points)))
            return
        result = evaluate_captioner(captioner, data_set, split, options, BATCH_SIZE, num)
    except ImportError as error:
        if error.name in ("torch", "torchvision"):
            raise  # for main, which says how to install them
        fail(f"evaluation needs extra packages: {install_line('train')} ({error})")
    except (DataError, ImageError) as error:
        fail(error)
    if as_json:
        show_lines(dump(result, indent=1))
    else:
        show_lines("\n".join(as_lines(result)))
