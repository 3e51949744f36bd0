"""`capcli evaluate`: scores of a checkpoint, or of captions made elsewhere, on a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capcli.cli.loading import decoding_options, load_captioner, require_attention
from capcli.cli.messages import fail, show_lines
from capcli.cli.options import BATCH_SIZE, AllowOutside, DecodingSet, ModelOptions, Only, grouped
from capcli.installing import install_line

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.options import DecodingOptions
    from capcli.training.data.datasets import DataSet


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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every caption and its own scores.")] = False,
    captions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score these captions instead of a model's: COCO's form for results, or what capcli writes.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Compare with another model, or its captions, by the paired bootstrap over photos.",
            show_default=False,
        ),
    ] = None,
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
    What pycocoevalcap calls CIDEr is CIDEr-D: n-grams are clipped, and a wrong length costs.
    """
    from capcli.outputs.formats import dump
    from capcli.results import ImageError

    if captions and (other := "--model" if model.model else "--num" if num > 1 else "--pointing" if pointing else ""):
        fail(f"{other} is for a model's captions, and --captions names captions that are made")
    if pointing and against:
        fail("--pointing measures one model, without --against")
    try:
        from capcli.training.data.datasets import DataError, read_data_set
        from capcli.training.measuring.evaluation import add_other, as_lines

        data_set = read_data_set(data, allow_outside=allow_outside)
        if pointing:
            show_pointing(data_set, split, model, decoding, num, pointing, as_json)
            return
        result = measure(data_set, split, model, decoding, num, captions)
        if against:
            given = Path(against) if Path(against).is_file() else None
            add_other(result, measure(data_set, split, replace(model, model=against), decoding, num, given), against)
    except ImportError as error:
        if error.name in ("torch", "torchvision"):
            raise  # for main, which says how to install them
        fail(f"evaluation needs extra packages: {install_line('train')} ({error})")
    except (DataError, ImageError) as error:
        fail(error)
    show_lines(dump(result, indent=1) if as_json else "\n".join(as_lines(result)))


def measure(
    data_set: DataSet, split: str, model: ModelOptions, asked: dict[str, Any], num: int, captions: Path | None
) -> dict[str, Any]:
    """Return the scores of a model's captions, or of those in a file. Raises DataError and ImageError."""
    from capcli.training.measuring.evaluation import evaluate_captioner, evaluate_captions
    from capcli.training.measuring.given import read_given

    photos = data_set.require(split)
    if captions:
        return evaluate_captions(read_given(captions, photos), data_set, split)
    captioner, options = open_captioner(model, asked, num, len(photos))
    return evaluate_captioner(captioner, data_set, split, options, BATCH_SIZE, num)


def show_pointing(
    data_set: DataSet, split: str, model: ModelOptions, asked: dict[str, Any], num: int, boxes: Path, as_json: bool
) -> None:
    """Print how often words for people point at a person. Raises DataError and ImageError."""
    from capcli.outputs.formats import dump
    from capcli.training.measuring.pointing import as_lines, measure_pointing, read_boxes

    captioner, options = open_captioner(model, asked, num, len(data_set.require(split)), "--pointing")
    points = measure_pointing(captioner, data_set, split, read_boxes(boxes), options, BATCH_SIZE)
    show_lines(dump(points, indent=1) if as_json else "\n".join(as_lines(points)))


def open_captioner(
    model: ModelOptions, asked: dict[str, Any], num: int, photos: int, attentive: str = ""
) -> tuple[Captioner, DecodingOptions]:
    """Return a captioner and how it decodes, and say that it begins.

    photos: how many it captions.
    attentive: the option that needs a decoder with attention, if any.
    """
    from capcli.cli.process import one_core_per_batch

    captioner = load_captioner(model)
    if attentive:
        require_attention(captioner, attentive)
    options = decoding_options(captioner, asked, num)
    one_core_per_batch(captioner, options)
    typer.echo(f"captioning {photos} photos on {captioner.device} in {captioner.precision}", err=True)
    return captioner, options
