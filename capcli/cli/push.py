"""`capcli push`: a trained captioner onto the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.messages import fail


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Checkpoint folder, as `capcli train` leaves it.")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Hub repository; created if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository for your eyes only.")] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Commit message.")] = "Upload a captioner",
) -> None:
    """Upload a trained captioner, with its model card, to the Hugging Face Hub.

    The token is HF_TOKEN, or the one that `hf auth login` stored. Four files go up, as one commit whose address is
    printed: config.json, vocabulary.json, model.safetensors and README.md, the card, which you may edit before.
    """
    from capcli.checkpoints.caption_model import push as push_run
    from capcli.checkpoints.store import ModelError

    try:
        typer.echo(push_run(run, repository, private, None, message))
    except ModelError as error:
        fail(error)
