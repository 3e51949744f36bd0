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
    two captions or more have them. All other photos are described as before. It is worth it for photos of one kind, and
    for names; of mixed photos it learns little. Photos held out in turn tell how much: if they are described worse than
    before, nothing is kept. MODEL also gets curves.html, a page to follow the teaching.

    To teach more later, run it again with all captions: a taught MODEL is replaced.

    Exit status: 1 if nothing is kept, 2 for a usage error or data that cannot be read.
    """
    from capcli.checkpoints.hub import find_checkpoint
    from capcli.cli.process import one_thread_each, set_up_process
    from capcli.files import LockedFolder

    set_up_process()
    with failures_told():
        workers = one_thread_each()
        from capcli.training.data.datasets import read_data_set
        from capcli.training.teaching.teaching import teach as teach_captioner
        from capcli.training.watching.watching import PAGE_FILE

        if not was_taught(output):  # whose next teaching takes its place
            require_room(output, [PAGE_FILE])
        data_set = read_data_set(data, hold_out=False, allow_outside=allow_outside)
        with closing(LockedFolder(output)):
            command = typed_command("teach")
            kept = teach_captioner(data_set, find_checkpoint(init), output, SEED, command, workers)
    if not kept:
        raise typer.Exit(1)


def was_taught(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint that was taught."""
    from capcli.checkpoints.store import ModelError, read_config

    try:
        return read_config(folder).words_before is not None
    except (ModelError, OSError):
        return False
