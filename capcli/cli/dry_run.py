"""A list of what a captioning run would do."""

from __future__ import annotations

import os
from collections.abc import Iterable

from capcli.cli.messages import say, show_lines
from capcli.cli.run import Run, count
from capcli.cli.summary import Summary
from capcli.images.decode import STANDARD_INPUT
from capcli.outputs.formats import on_one_line
from capcli.results import ImageError


class Listing(Summary):
    """Print skipped images as they are found."""

    def skip(self, path: str, reason: str) -> None:
        """Print `skip<TAB>path<TAB>reason`."""
        show_row("skip", path, reason)


def list_images(run: Run, images: Iterable[str | ImageError], places: list[str], quiet: bool) -> int:
    """Print a line for each image; return the exit status, 1 if some would fail.

    Lines are `caption<TAB>path<TAB>targets`, `skip<TAB>path<TAB>reason` and `fail<TAB>path<TAB>reason`. Images are not
    decoded, so damaged ones are listed as `caption`.

    run: decides which images need captioning, and counts.
    images: paths, and ImageErrors for what could not be listed.
    places: targets besides the run's sinks.
    quiet: print no total.
    """
    for image in run.to_do(images):
        run.found += 1
        if isinstance(image, str) and image != STANDARD_INPUT and not os.path.exists(image):
            image = ImageError(image, "no such file or directory")
        if isinstance(image, ImageError):
            run.failed += 1
            show_row("fail", image.path, image.reason)
        else:
            show_row("caption", image, ", ".join([*run.targets(image), *places]))
    if not quiet:
        would = f"{count(run.captioned, 'image')} would be captioned"
        say(
            f"{would}, {run.skipped + run.drawn + run.system_folders} skipped, {run.failed} failed; nothing was written"
        )
    return 1 if run.failed else 0


def show_row(what: str, path: str, rest: str) -> None:
    """Print three columns, with tabs and line ends in them escaped."""
    show_lines(f"{what}\t{on_one_line(path)}\t{on_one_line(rest)}")
