"""`capcli teach`: a checkpoint learns a person's captions."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.learning import failures_told, require_room, typed_command
from capcli.cli.options import SEED, AllowOutside


def teach(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Your captions, in any form that `capcli train` takes; corrections.json of `capcli serve` is one.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="Write the taught checkpoint into this folder.")
    ],
    init: Annotated[
        str,
        typer.Option(metavar="MODEL", help="Teach this checkpoint: bundled, or a folder from `capcli train`."),
    ] = "bundled",
    allow_outside: AllowOutside = False,
) -> None:
    """Teach a checkpoint your own captions of some photos.

    Photos that look like these to the encoder will be described in your words, including those new to the checkpoint if
    two captions or more have them. All other photos are described as before. Twenty captions make a visible difference;
    minutes on two processor cores are enough. First the checkpoint is tried on photos that are held out in turn, and
    their gain is printed. MODEL also gets curves.html, a page to follow the teaching.

    To teach more later, teach the same checkpoint again with all captions.
    """
    from capcli.checkpoints.hub import find_checkpoint
    from capcli.cli.process import leave_busy_cores, set_up_process
    from capcli.files import LockedFolder

    set_up_process()
    with failures_told():
        leave_busy_cores()
        from capcli.training.data.datasets import read_data_set
        from capcli.training.teaching.teaching import teach as teach_captioner
        from capcli.training.watching.watching import PAGE_FILE

        require_room(output, [PAGE_FILE])
        data_set = read_data_set(data, hold_out=False, allow_outside=allow_outside)
        with closing(LockedFolder(output)):
            teach_captioner(data_set, find_checkpoint(init), output, SEED, typed_command("teach"))
