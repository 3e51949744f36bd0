"""`capcli info`: the description of a checkpoint, or whose the captions of a photo are."""

from __future__ import annotations

import json
import os
from typing import Annotated

import typer

from capcli.cli.messages import escape_controls, fail, one_line


def info(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoint: a folder, or USER/NAME on the Hugging Face Hub; or a photo.  [default: bundled]",
            show_default=False,
        ),
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the model card.")] = False,
) -> None:
    """Describe a checkpoint, or say whose the captions of a photo are.

    Of a checkpoint: architecture, data, scores and device. Of a photo: each caption in it and beside it, where it is,
    whose it is, and which one readers show.
    """
    if checkpoint is not None and os.path.isfile(checkpoint):
        typer.echo(about_photo(checkpoint, as_json))
        return
    from capcli.checkpoints.card import as_text, describe_checkpoint
    from capcli.checkpoints.hub import find_checkpoint
    from capcli.checkpoints.store import ModelError
    from capcli.engines.choose import engine_loader

    try:
        load = engine_loader()
        folder = find_checkpoint(checkpoint)
        engine = load(folder)
    except (ModelError, ValueError) as error:
        fail(error)
    description = describe_checkpoint(engine.facts, folder, engine.name, engine.device)
    typer.echo(json.dumps(description, indent=1) if as_json else as_text(description, card))


def about_photo(path: str, as_json: bool) -> str:
    """Return the texts kept for a photo, with place, field, author and which readers show them; or exit with a line."""
    from capcli.outputs.whose import shown_by_readers, texts_of
    from capcli.results import ImageError

    try:
        told = texts_of(path)
    except ImageError as error:
        fail(error)
    shown = shown_by_readers(told)
    if as_json:
        rows = [{"place": each.place, "field": each.field, "text": each.text, "whose": each.whose} for each in told]
        return json.dumps({"texts": rows, "shown": {name: each.text for name, each in shown.items()}}, indent=1)
    lines = [f"{one_line(each.place)}, {each.field}: {one_line(each.text)}  [{one_line(each.whose)}]" for each in told]
    lines += [f"{readers} show: {one_line(each.text)}" for readers, each in shown.items()]
    return escape_controls("\n".join(lines)) or "no caption"
