"""`capcli merge`: the outputs of several runs as one."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from capcli.cli.messages import fail, say
from capcli.cli.options import one_of
from capcli.outputs.formats import FORMATS


def merge(
    parts: Annotated[
        list[str], typer.Argument(metavar="PARTS", help="Outputs of capcli caption, in any of its formats.")
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.", show_default=False),
    ] = None,
    format: Annotated[
        str | None, one_of(FORMATS, "Output format.  [default: by FILE's ending; text on stdout]")
    ] = None,
    existing: Annotated[str | None, one_of(("overwrite",), "Replace an existing FILE.  [default: refuse it]")] = None,
) -> None:
    """Put outputs together, or convert them to another format.

    Rows come in the order of PARTS, each of which is read by the format that its ending stands for. Where an image has
    several equal rows, one is kept; a failure is kept if no part has a caption. Two captions that differ are an error.
    Text has no place for failures, and no log-probabilities.

    FILE is replaced once the new one is complete; if anything is wrong with a part, it stays as it is.

    Exit status: 0 if all rows were put together, 1 if the output failed, 2 for a usage error or a part that cannot be
    used.
    """
    from capcli.cli.run import count
    from capcli.cli.streams import StandardOutput
    from capcli.files import OutputError, discarding
    from capcli.outputs.formats import format_by_ending
    from capcli.outputs.merge import Merge
    from capcli.outputs.resume import check_output, open_rows
    from capcli.outputs.rows import Layout

    name = format or format_by_ending(output)
    if name is None:
        fail(f"{output}: unknown ending; choose a format with --format {'|'.join(FORMATS)}")
    overwrite = existing == "overwrite"
    merged = Merge([(part, FORMATS[format_of(part, output)]) for part in parts])
    try:
        check_output(output, overwrite)
        merged.check()
    except OutputError as error:
        fail(error)
    layout, kind = Layout(merged.num), FORMATS[name]
    try:
        rows = (
            kind(StandardOutput(), layout)
            if output is None
            else open_rows(output, kind, layout, False, overwrite, True)
        )
        with discarding(rows.file):
            for row in merged.rows():
                rows.copy(row)
            rows.close()
    except BrokenPipeError:  # the reader has what it wanted
        return
    except OutputError as error:
        fail(error, 1)
    kept = f"{count(merged.captions, 'caption')} and {count(merged.failures, 'failure')}"
    say(f"{kept} from {count(len(parts), 'file')}; {count(merged.dropped, 'duplicate')} left out")


def format_of(part: str, output: str | None) -> str:
    """Return the name of a part's format, or fail if there is no such part, or its format is unknown."""
    from capcli.outputs.formats import format_by_ending

    if not os.path.isfile(part):
        fail(f"{part}: {'not a file' if os.path.exists(part) else 'no such file'}")
    if output is not None and os.path.exists(output) and os.path.samefile(part, output):
        fail(f"{part}: is the output as well; name another file")
    name = format_by_ending(part)
    if name is None:
        endings = ", ".join(ending for kind in FORMATS.values() for ending in kind.endings)
        fail(f"{part}: unknown ending; known are {endings}")
    return name
