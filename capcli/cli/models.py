"""`capcli models`: a list of the checkpoints on this machine."""

from __future__ import annotations

from pathlib import Path

from capcli.cli.messages import say, show_lines


def models() -> None:
    """List the bundled checkpoint and those downloaded from the Hub.

    One per line: its name, as --model takes it, its size and its folder.
    """

    from capcli.checkpoints.hub import BUNDLED, bundled_checkpoint, cached_checkpoints
    from capcli.checkpoints.store import CHECKPOINT_FILES, ModelError

    rows: list[tuple[str, int, Path]] = []
    try:
        bundled = bundled_checkpoint()
        size = sum((bundled / name).stat().st_size for name in CHECKPOINT_FILES)
        rows.append((BUNDLED, size, bundled))
    except (ModelError, OSError) as error:
        say(error)
    rows += [(found.name, found.bytes, found.folder) for found in cached_checkpoints()]
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, size, folder in rows:
        show_lines(f"{name:{width}}  {size / 1e6:7.1f} MB  {folder}")
