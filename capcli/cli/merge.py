"""`capcli merge`: the outputs of several runs as one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.messages import fail, say
from capcli.cli.options import Format, choose_format, one_of
from capcli.outputs.formats import FORMATS

if TYPE_CHECKING:
    from capcli.outputs.merge import Merge
    from capcli.outputs.rows import Layout, Rows


def merge(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="PARTS", help="Outputs of capcli caption, in any of its formats, and folders of Parquet."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write to FILE instead of stdout.", show_default=False),
    ] = None,
    format: Format = None,
    keep_unsure: Annotated[
        bool, typer.Option("--keep-unsure", help="Write unsure captions into text and imagefolder, too.")
    ] = False,
    existing: Annotated[str | None, one_of(("overwrite",), "Replace an existing FILE.  [default: refuse it]")] = None,
) -> None:
    """Merge outputs, or convert them to another format.

    Rows come in the order of PARTS, whose endings tell their formats. Of an image's equal rows one is kept; a failure
    is kept if no part has a caption. Two captions that differ are an error. Text has no place for failures or
    log-probabilities.

    FILE is replaced once the new one is complete; if anything is wrong with a part, it stays as it is.

    Exit status: 0 if all rows were merged, 1 if the output failed, 2 for a usage error or a part that cannot be
    used.
    """
    from capcli.cli.run import count
    from capcli.files import OutputError
    from capcli.outputs.merge import Merge
    from capcli.outputs.parquet import ParquetRows, check_parquet, is_folder
    from capcli.outputs.resume import check_output
    from capcli.outputs.rows import Layout
    from capcli.results import ImageError

    name = choose_format(format, output)
    overwrite = existing == "overwrite"
    kind = FORMATS[name]
    if output is None and not kind.streams:
        fail(f"--format {name} needs --output FILE")
    if output is not None and is_folder(output):
        fail(f"{output}: is a folder; name a file")
    files = [file for part in parts for file in files_of(part)]
    merged = Merge([(file, FORMATS[format_of(file, output)]) for file in files])
    try:
        check_output(output, overwrite)
        if output is not None and kind is ParquetRows:
            check_parquet(output)
        merged.check()
    except OutputError as error:
        fail(error)
    layout = Layout(merged.num, keywords=merged.keywords, keeps_unsure=keep_unsure)
    try:
        left_out = copy_rows(merged, kind, layout, output, overwrite)
    except BrokenPipeError:  # the reader has what it wanted
        return
    except (OutputError, ImageError) as error:
        fail(error, 1)
    kept = f"{count(merged.captions, 'caption')} and {count(merged.failures, 'failure')}"
    say(f"{kept} from {count(len(files), 'file')}; {count(merged.dropped, 'duplicate')} left out")
    if left_out:
        say(f"{count(left_out, 'unsure caption')} left out: --keep-unsure writes them")


def copy_rows(merged: Merge, kind: type[Rows], layout: Layout, output: str | None, overwrite: bool) -> int:
    """Write all parts' rows; return how many unsure captions were left out.

    overwrite: whether the output may be replaced.

    Raises OutputError, ImageError and BrokenPipeError.
    """
    from capcli.cli.streams import StandardOutput
    from capcli.outputs.resume import open_rows

    rows = kind(StandardOutput(), layout) if output is None else open_rows(output, kind, layout, False, overwrite, True)
    left_out = 0
    try:
        for row in merged.rows():
            rows.copy(row)
            left_out += rows.leaves_out(row)
        rows.close()
    except BaseException:
        rows.discard()
        raise
    return left_out


def files_of(part: str) -> list[str]:
    """Return a folder's Parquet files from capcli, or fail if it has none; a file stands for itself."""
    from capcli.outputs.parquet import parts_of

    files = [str(file) for file in parts_of(part)] if os.path.isdir(part) else [part]
    if not files:
        fail(f"{part}: no part-….parquet from capcli in this folder")
    return files


def format_of(part: str, output: str | None) -> str:
    """Return the name of a part's format, or fail if it has none or there is no such part."""
    from capcli.outputs.formats import format_by_ending

    if not os.path.isfile(part):
        fail(f"{part}: {'not a file' if os.path.exists(part) else 'no such file'}")
    if output is not None and os.path.exists(output) and os.path.samefile(part, output):
        fail(f"{part}: is also the output; name another file")
    name = format_by_ending(part)
    if name is None:
        endings = ", ".join(ending for kind in FORMATS.values() for ending in kind.endings)
        fail(f"{part}: unknown ending; known are {endings}")
    return name
