"""`capcli models`: a list of the checkpoints on this machine."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from capcli.cli.messages import say, show_lines


def models(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> None:
    """List the bundled checkpoint and those downloaded from the Hub.

    One per line: its name, as --model takes it, its size and its folder.
    """

    from capcli.checkpoints.hub import BUNDLED, bundled_checkpoint, cached_checkpoints
    from capcli.checkpoints.store import CHECKPOINT_FILES, ModelError

    rows: list[dict[str, Any]] = []
    try:
        bundled = bundled_checkpoint()
        size = sum((bundled / name).stat().st_size for name in CHECKPOINT_FILES)
        rows.append({"model": BUNDLED, "bytes": size, "folder": str(bundled)})
    except (ModelError, OSError) as error:
        say(error)
    rows += [{"model": c.name, "bytes": c.bytes, "folder": str(c.folder)} for c in cached_checkpoints()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        width = max((len(row["model"]) for row in rows), default=0)
        for row in rows:
            show_lines(f"{row['model']:{width}}  {row['bytes'] / 1e6:7.1f} MB  {row['folder']}")
