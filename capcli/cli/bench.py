"""`capcli bench`: how fast captioning is on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from capcli.cli.loading import load_captioner
from capcli.cli.messages import fail, say
from capcli.cli.options import BATCH_SIZE, ModelOptions, Only, grouped

MOST = 300  # images to measure with


@grouped
def bench(
    model: Annotated[ModelOptions, Only("model", "device", "engine")],
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER",
            help="Measure with the first 300 images here.  [default: generated ones]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure how fast captioning is on this machine.

    Prints, for each stage (decode, encode, search, write), the images per second that it reaches alone and its share of
    the work on an image; then the images per second of all stages together, and what limits them. Importing
    ONNX Runtime or PyTorch is not counted.

    Exit status: 0 done, 1 some images failed, 2 usage error or no images.
    """
    import tempfile
    import time
    from itertools import islice

    from capcli.images.find import find_images
    from capcli.results import ImageError

    if folder is not None and not os.path.exists(folder):
        fail(f"{folder}: no such file or folder")
    from capcli.bench.measuring import make_images, measure
    from capcli.bench.printing import as_lines
    from capcli.cli.process import one_core_per_batch
    from capcli.engines.choose import engine_loader

    with contextlib.suppress(ValueError):  # which loading will raise
        engine_loader(model.engine, model.device, model.precision)  # imported before the clock starts

    started = time.perf_counter()
    captioner = load_captioner(model)
    one_core_per_batch(captioner, captioner.options)
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            paths = make_images(Path(made), MOST)
        else:
            found = list(islice(find_images([folder]), MOST))
            paths = [path for path in found if isinstance(path, str)]
            for error in found:
                if isinstance(error, ImageError):
                    say(error)
        result = measure(captioner, paths, BATCH_SIZE) if paths else {"failed": []}
    for failure in result["failed"]:
        say(failure)
    if "bound" not in result:
        fail(f"no images in {folder}")
    result = {"load_seconds": seconds, **result}
    typer.echo("\n".join(as_lines(result)))
    if result["failed"]:
        raise typer.Exit(1)
