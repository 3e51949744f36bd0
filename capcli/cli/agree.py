"""`capcli agree`: a checkpoint learns to rank its captions by how well they agree with the photo."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.learning import failures_told, require_room, typed_command
from capcli.cli.options import SEED, AllowOutside, Device


def agree(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help="Photos with captions, in any form that `capcli train` takes."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="Write the new checkpoint into this folder.")
    ],
    init: Annotated[
        str, typer.Option(metavar="MODEL", help="Begin with this checkpoint; best if trained on the same photos.")
    ] = "bundled",
    device: Device = "auto",
    allow_outside: AllowOutside = False,
) -> None:
    """Learn to rank captions by how well they agree with the photo.

    A small network learns which captions belong to which photos. Of the sentences that it has found, beam search then
    takes not the most probable one, but one that fits this photo better than others. Encoder and decoder stay as they
    are. How much agreement counts is chosen on dev photos; `--set agreement=W` of `capcli caption` changes it.

    The last step of training: `capcli train --fine-tune` changes the encoder, and drops what was learnt here.
    """
    from capcli.checkpoints.hub import find_checkpoint
    from capcli.checkpoints.store import KINDS_FILE, MEMORY_FILE
    from capcli.cli.process import set_up_process
    from capcli.files import LockedFolder

    set_up_process()
    with failures_told():
        require_room(output, [KINDS_FILE, MEMORY_FILE])
        from capcli.engines.torch import choose_device
        from capcli.training.learning.agreement import learn_agreement
        from capcli.training.learning.setup import read_data_sets

        sets = read_data_sets(tuple(data), allow_outside)
        with closing(LockedFolder(output)):
            learn_agreement(
                sets, find_checkpoint(init), output, None, choose_device(device), SEED, typed_command("agree")
            )
