"""`capcli caption`: caption images."""

from __future__ import annotations

from typing import Annotated

import typer

from capcli.cli.options import (
    BATCH_SIZE,
    Decoding,
    ModelOptions,
    Num,
    Quiet,
    Running,
    Sources,
    Views,
    Writing,
    grouped,
)


@grouped
def caption(
    sources: Sources,
    decoding: Decoding,
    writing: Writing,
    views: Views,
    model: ModelOptions,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATHS", help="Image files, folders, globs, or - for an image on stdin."),
    ] = None,
    num: Num = 1,
    batch_size: Annotated[
        int, Running(min=1, metavar="N", help="Run N images through the model at once.")
    ] = BATCH_SIZE,
    watch: Annotated[
        bool, Running("--watch", help="Go on with images that come into the folders, until Ctrl-C.")
    ] = False,
    dry_run: Annotated[
        bool,
        Running(
            "--dry-run",
            help="List what would happen to each image, and why; write nothing.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        Running(
            "--verbose",
            "-v",
            help="Name the engine that captions, each skipped image with the reason, and texts inside images that no "
            "person wrote.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Caption images.

    For a single image file, print just its caption; for anything else, `path<TAB>caption` lines. JSON rows are {"path",
    "caption", "log_prob", "score"}: log_prob is the sum of the natural log-probabilities of the words and <end>, and
    captions are ranked by score = log_prob / nᵅ + W × agreement, where n counts the words and <end>, α and W are the
    checkpoint's, and agreement, −1 to 1, is how well caption and photo go together; a checkpoint that has not learnt it
    adds nothing. With --num, rows also have "candidates". An unreadable image gives one line on stderr and, in JSON, a
    row {"path", "error"}.

    A caption that is probably wrong, by the model's own estimate, is marked as unsure: rows have "unsure": true, and
    lines on a terminal end in (unsure). Other text, sidecars and metadata cannot show that, so there it is left out
    unless --keep-unsure is given.

    An existing FILE is refused without --resume or --existing overwrite, and so is one that another run is writing.
    After Ctrl-C or a crash, --resume continues a jsonl, csv or tsv FILE; for sidecars and metadata, run the same
    command again. With --format parquet, FILE may be a FOLDER/, which gets a file for every thousand images and can be
    continued as well.

    Exit status: 0 if all images were captioned, 1 if some of them, the output or the cache failed, 2 for a usage
    error or a path that does not exist, 130 after Ctrl-C (128 plus the number of the signal).
    """
    from capcli.cli.plan import CaptionOptions, CaptionPlan

    options = CaptionOptions(
        paths or [], sources, decoding, writing, views, model, num, batch_size, verbose, quiet, watch
    )
    plan = CaptionPlan.check(options, dry_run)
    raise typer.Exit(plan.dry_run() if dry_run else plan.run())
