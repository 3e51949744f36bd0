"""`capcli data`: what a data set holds, before anything is trained on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.learning import failures_told
from capcli.cli.messages import fail, show_lines
from capcli.cli.options import AllowOutside


def data(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Data set, in any form that `capcli train` takes.")],
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw ten samples into this PNG.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all that is odd.")] = False,
    allow_outside: AllowOutside = False,
) -> None:
    """Describe a data set: photos, captions, words, splits, what is odd, and ten samples.

    Odd are very short and very long captions, photos that cannot be read, tiny or narrow ones, and those that are there
    twice, above all in two splits.
    """
    from capcli.outputs.formats import dump

    with failures_told():
        from capcli.files import write_whole
        from capcli.maps.sheet import encode
        from capcli.progress import progress, stderr_console
        from capcli.training.data.datasets import read_data_set
        from capcli.training.data.describing import as_lines, describe_data, draw_samples

        if sheet and os.path.lexists(sheet):
            fail(f"{sheet}: exists; name another file")
        data_set = read_data_set(data, allow_outside=allow_outside)
        with progress(stderr_console(), "looking at photos", len(data_set.photos), "photos") as advance:
            found = describe_data(data_set, advance)
        show_lines(dump(found, indent=1) if as_json else "\n".join(as_lines(found)))
        if sheet:
            write_whole(sheet, encode(draw_samples(data_set)))
