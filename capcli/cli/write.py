"""`capcli write`: captions that were made or corrected elsewhere go where those of `capcli caption` go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.messages import fail, fail_to_open, say
from capcli.cli.options import Choice, Only, Running, Views, Writing, choose_format, grouped

if TYPE_CHECKING:
    from capcli.outputs.merge import Merge
    from capcli.outputs.rows import Layout, Rows
    from capcli.outputs.sink import Sink
    from capcli.outputs.written import Written


@grouped
def write(
    rows: Annotated[
        list[str],
        typer.Argument(
            metavar="ROWS",
            help="Files with captions (JSON, JSON Lines, CSV, TSV, Parquet, text), whoever wrote them, and folders of "
            "photos with texts beside them.",
        ),
    ],
    writing: Annotated[
        Writing,
        Only(
            "output",
            "format",
            "sidecar",
            "output_dir",
            "write_metadata",
            "xmp",
            "fields",
            "existing",
            "keep_unsure",
            "cache",
        ),
    ],
    views: Annotated[Views, Only("html")],
    column: Annotated[
        list[str] | None,
        Choice(
            metavar="NAME=COLUMN",
            help="A column's name in ROWS, where it is none that capcli knows: path=File, caption=Text or "
            "keywords=Tags.  [repeatable]",
        ),
    ] = None,
    remove: Annotated[
        bool,
        Running(
            "--remove",
            help="ROWS are photos and folders: take out what capcli wrote there and nobody has changed; of sidecars, "
            "what --cache knows.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, Running("--dry-run", help="Show the old text and the new one of each file; write nothing.")
    ] = False,
) -> None:
    """Write captions made or corrected elsewhere; merge and convert them.

    Each row names a photo (path, file_name, file_path or image) and its caption (caption, text or captions). Its other
    columns, their order and a spreadsheet's semicolons don't matter. --existing overwrite lets a corrected caption take
    the place of the one that is there.

    Without --sidecar, --write-metadata, --xmp and --html, rows are only copied to FILE or stdout, in the order of ROWS:
    one for each image, and a failure if no row has a caption. FILE is replaced once the new one is complete.

    An image with two captions that differ fails, and so does one that is gone. No model is loaded.

    What a checkpoint said is signed in metadata, what a person wrote is not. Rows don't tell which is which, but the
    --cache of the captioning run does; without it nothing is signed.

    Exit status: 0 if all rows were written, 1 if some of them or the output failed, 2 for a usage error or ROWS that
    cannot be read.
    """
    from capcli.cli.rewriting import Rewriting, show_changes, summarise  # here, as help needs no Pillow
    from capcli.cli.rules import place_rules, refuse
    from capcli.cli.views import open_views
    from capcli.cli.writing import read_written
    from capcli.files import OutputError
    from capcli.outputs.merge import Merge
    from capcli.outputs.rows import Layout

    if remove:
        from capcli.cli.removal import take_out

        others = writing.output or writing.into_images or writing.existing or views.html or column
        refuse([(others, "--remove goes with --cache and --dry-run alone")])
        check_database(writing.cache)
        raise typer.Exit(take_out(rows, writing.cache, dry_run))
    output, kind = output_of(writing)
    refuse(place_rules(writing, bool(output or views.html)))
    for part in rows:
        for option, file in (("--output", output), ("--html", views.html)):
            if file is not None and os.path.exists(file) and os.path.exists(part) and os.path.samefile(part, file):
                fail(f"{option} {file}: is read by this command; name another file")
    merged = Merge(rows, read_columns(column))
    overwrite = writing.existing == "overwrite"
    check_database(writing.cache)
    try:
        check_outputs(writing, views, output, kind)
        merged.check()
    except OutputError as error:
        fail(error)
    written = read_written(writing.cache)
    layout = Layout(merged.num, keywords=merged.keywords, keeps_unsure=writing.keep_unsure)
    places = places_of(rows, writing, views, output, merged, written)
    moves = bool(places or views.html)
    if dry_run:
        raise typer.Exit(show_changes(Rewriting(no_rows(kind, layout), places, moves=moves, written=written), merged))
    with open_views(None, views, merged.num, overwrite) as opened:
        try:
            into = open_output(output, kind, layout, overwrite, moves)
        except OutputError as error:
            fail_to_open(error)
        run = Rewriting(into, [*places, *opened], moves=moves, written=written)
        from capcli.progress import CaptionBar

        status = run.execute(run.batches(merged), CaptionBar(False), quiet=True)
    if status > 128:
        say("interrupted" + ("" if output or overwrite else "; to continue, run the same command again"))
    elif run.complete:
        summarise(run, merged)
    raise typer.Exit(status)


def output_of(writing: Writing) -> tuple[str | None, type[Rows]]:
    """Return the file of the rows, None for stdout, and its format, or exit with a line."""
    from capcli.outputs.formats import FORMATS
    from capcli.outputs.imagefolder import FILE, ImageFolderRows
    from capcli.outputs.parquet import is_folder

    output = None if writing.output == "-" else writing.output
    name = choose_format(writing.format, output)
    kind = FORMATS[name]
    if output is None and not kind.streams:
        fail(f"--format {name} needs --output FILE")
    if output is not None and is_folder(output):
        if kind is not ImageFolderRows:
            fail(f"{output}: is a folder; name a file")
        output = os.path.join(output, FILE)
    return output, kind


def check_outputs(writing: Writing, views: Views, output: str | None, kind: type[Rows]) -> None:
    """Raise OutputError for outputs that cannot be written, as far as can be told without touching them."""
    from capcli.outputs.parquet import ParquetRows, check_parquet
    from capcli.outputs.resume import check_output

    overwrite = writing.existing == "overwrite"
    check_output(output, overwrite)
    if output is not None and kind is ParquetRows:
        check_parquet(output)
    check_output(views.html, overwrite)


def check_database(path: str | None) -> None:
    """Exit with a line for a cache that cannot be used. path: None for none."""
    from capcli.files import OutputError

    if path is not None:
        from capcli.outputs.cache import check_cache  # loads SQLite

        try:
            check_cache(path)
        except OutputError as error:
            fail(error)


def read_columns(pairs: list[str] | None) -> dict[str, str]:
    """Return what columns are called, or exit with a line."""
    from capcli.outputs.incoming import COLUMNS

    found = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not (equals and column and name in COLUMNS):
            fail(f"--column {pair}: not NAME=COLUMN with one of {', '.join(COLUMNS)}")
        found[name] = column
    return found


def places_of(
    rows: list[str], writing: Writing, views: Views, output: str | None, merged: Merge, written: Written | None
) -> list[Sink]:
    """Return the sinks beside the photos and inside them."""
    from capcli.cli.writing import open_places
    from capcli.outputs.template import CAPTION_ALONE

    files = {"--output": output, "--html": views.html, **{part: part for part in rows if os.path.isfile(part)}}
    return open_places([merged.root] if merged.root else [], writing, files, CAPTION_ALONE, merged.num, written)


def no_rows(kind: type[Rows], layout: Layout) -> Rows:
    """Return rows that go nowhere."""
    from capcli.cli.streams import NoOutput

    return kind(NoOutput(), layout)


def open_output(output: str | None, kind: type[Rows], layout: Layout, overwrite: bool, moves: bool) -> Rows:
    """Return the rows, opened. moves: whether nobody wants them on stdout. Raises OutputError."""
    from capcli.cli.streams import StandardOutput
    from capcli.outputs.resume import open_rows

    if output is not None:
        return open_rows(output, kind, layout, False, overwrite, True)
    return no_rows(kind, layout) if moves else kind(StandardOutput(), layout)
