"""`capcli cluster`: caption on the machines of a Ray cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from capcli.cli.options import (
    ClusterOptions,
    DecodingSet,
    ModelOptions,
    Num,
    Only,
    Place,
    Sources,
    Writing,
    grouped,
)


@grouped
def cluster(
    cluster: ClusterOptions,
    sources: Annotated[Sources, Only("files_from")],
    decoding: DecodingSet,
    writing: Annotated[Writing, Only("resume")],
    model: Annotated[ModelOptions, Only("model")],
    output: Annotated[str, Place("--output", "-o", metavar="FOLDER", help="Write Parquet files into this folder.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATHS", help="Image files, folders, globs, WebDataset shards (.tar), or with --column manifests."
        ),
    ] = None,
    num: Num = 1,
) -> None:
    """Caption a million images on the machines of a Ray cluster.

    FOLDER gets a Parquet file for each thousand images, complete at every moment: losing a machine loses no captions,
    and --resume adds the missing ones. `capcli write` reads the folder.

    Exit status: 0 if all images were captioned, 1 if some failed, 2 for a usage error, 130 after Ctrl-C (128 plus the
    number of the signal).
    """
    from capcli.cli.job import Job

    job = Job(paths or [], output, cluster, sources, decoding, writing, model, num)
    raise typer.Exit(job.run())
