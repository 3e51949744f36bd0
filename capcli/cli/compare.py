"""`capcli compare`: several checkpoints on one photo, side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.loading import load_captioner
from capcli.cli.messages import absent, fail, fail_to_open, show_lines
from capcli.cli.options import SEED, ModelOptions, check_page

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.maps.comparing import Look

DRAWS = 100  # locations per word, whose mean is close to hard attention's weights
SHEETS = (".png", ".jpg", ".jpeg", ".webp")


def check_sheet(sheet: Path | None) -> Path | None:
    """Return a contact sheet's path or None, refusing other kinds of files."""
    if sheet is not None and sheet.suffix.lower() not in SHEETS:
        fail(f"--sheet {sheet}: the name of a contact sheet must end in {', '.join(SHEETS)}")
    return sheet


def compare(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="Image file, or - for stdin.")],
    others: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="More checkpoints, as for --models.", show_default=False)
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL ...",
            help="Checkpoints to compare, each a folder, bundled, or USER/NAME of the Hugging Face Hub.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a page: each word's probability, and where the models looked.",
            callback=check_page,
            show_default=False,
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw the same as one picture, a contact sheet in PNG, JPEG or WebP.",
            callback=check_sheet,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare how several checkpoints caption a photo.

    Prints `model<TAB>how each word sees the photo<TAB>caption`. A checkpoint with hard attention has three lines: one
    for the likeliest place, one for a place drawn for each word, and one for the mean of 100 draws, which comes close
    to the weights they are drawn by. The draws are the same in every run.

    Exit status: 0 done, 1 the photo cannot be read, or an output cannot be written, 2 usage error.
    """
    from capcli.results import ImageError

    names = [*(models or []), *(others or [])]
    check(photo, names, [path for path in (html, sheet) if path])
    captioners = [(name, load_captioner(ModelOptions(model=name))) for name in names]
    try:
        looks = [look for name, captioner in captioners for look in looks_of(name, captioner, photo)]
    except ImageError as error:
        fail(error, 1)
    for look in looks:
        show_lines(f"{look.model}\t{look.seen}\t{look.caption.text}")
    write(looks, html, sheet)


def check(photo: str, names: list[str], outputs: list[Path]) -> None:
    """Exit with status 2 and a line if there is no such photo, no name of a checkpoint, or no room for an output."""
    from capcli.files import OutputError
    from capcli.images.decode import STANDARD_INPUT
    from capcli.outputs.resume import check_output

    if not names:
        fail("name the checkpoints: --models MODEL MODEL ...")
    if photo != STANDARD_INPUT and not os.path.exists(photo):
        fail(absent(photo, "file"))
    try:
        for path in outputs:
            check_output(path, overwrite=False, how=None)
    except OutputError as error:
        fail_to_open(error)


def write(looks: list[Look], html: Path | None, sheet: Path | None) -> None:
    """Write the page and the contact sheet, or exit with status 1 and a line."""
    from capcli.files import OutputError, write_whole
    from capcli.maps.comparing import comparison_page, comparison_sheet
    from capcli.maps.sheet import encode

    try:
        if html:
            write_whole(html, comparison_page(looks).encode("utf-8", "replace"))
        if sheet:
            write_whole(sheet, encode(comparison_sheet(looks), sheet.suffix))
    except OSError as error:
        fail(OutputError(error.filename or "", error), 1)


def looks_of(name: str, captioner: Captioner, photo: str) -> Iterator[Look]:
    """Yield what a checkpoint says of a photo, and for hard attention also what it says when it draws.

    Raises ImageError.
    """
    from dataclasses import replace

    from capcli.maps.comparing import Look
    from capcli.maps.shown import THUMBNAIL
    from capcli.results import ImageError

    kind, options = captioner.config.decoder_kind, captioner.options
    seen = kind.seen if captioner.config.feed_previous_word else f"{kind.seen}, and no word before it"
    ways = {seen: options}
    if kind.samples_locations:
        ways["a place drawn for each word"] = replace(options, attention_samples=1, seed=SEED)
        ways[f"the mean of {DRAWS} draws"] = replace(options, attention_samples=DRAWS, seed=SEED)
    for way, decoding in ways.items():
        for caption in captioner.stream([photo], options=decoding, photo_side=THUMBNAIL):
            if isinstance(caption, ImageError):
                raise caption
            yield Look(name, way, caption)
