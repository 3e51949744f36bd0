"""`capcli push`: upload of a checkpoint to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.messages import fail


def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Checkpoint folder from `capcli train`, or bundled.")],
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Hub repository; created if it does not exist.")
    ],
    private: Annotated[bool, typer.Option("--private", help="If the repository is created, make it private.")] = False,
) -> None:
    """Upload a checkpoint and its model card to the Hugging Face Hub.

    Uploads config.json, vocabulary.json, model.safetensors and README.md, the model card, which you may edit first, as
    one commit, and prints its address. The token is HF_TOKEN, or the one that `hf auth login` stored.
    """
    from capcli.checkpoints.caption_model import push as push_run
    from capcli.checkpoints.hub import BUNDLED, find_checkpoint
    from capcli.checkpoints.store import ModelError

    try:
        typer.echo(push_run(find_checkpoint(run) if run == BUNDLED else Path(run), repository, private))
    except ModelError as error:
        fail(error)
