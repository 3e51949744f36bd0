"""`capcli info`: the description of a checkpoint."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from capcli.cli.messages import fail


def info(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoint: a folder, or USER/NAME on the Hugging Face Hub.  [default: bundled]",
            show_default=False,
        ),
    ] = None,
    card: Annotated[bool, typer.Option("--card", help="Print the model card as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the model card.")] = False,
) -> None:
    """Describe a checkpoint: architecture, data, scores and device."""

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
