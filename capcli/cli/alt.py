"""`capcli alt`: alt texts for the images of web pages."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.loading import load_captioner
from capcli.cli.messages import fail, one_line, say, show_lines
from capcli.cli.options import BatchSize, Choosing, ModelOptions, grouped

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.results import Caption, ImageError


@grouped
def alt(
    model: ModelOptions,
    choosing: Choosing,
    site: Annotated[
        list[str], typer.Argument(metavar="SITE", help="HTML and Markdown files, and folders with such files.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Only list images without an alt text, and exit with 1 if there are any.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be changed, as a unified diff; write nothing.")
    ] = False,
    max_chars: Annotated[int, typer.Option(min=1, metavar="N", help="Write no alt text of more than N characters.")] = (
        125
    ),
    unsure: Annotated[bool, typer.Option("--unsure", help="Write captions that the model is unsure of, too.")] = False,
    root: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Where /photo.jpg lies.  [default: the folder SITE; for a file, the working directory]",
            show_default=False,
        ),
    ] = None,
    batch_size: BatchSize = 32,
) -> None:
    """Write the missing alt texts of HTML and Markdown.

    In HTML these are <img> without alt, in Markdown ![](photo.jpg) and HTML. alt="" says that an image is decoration:
    it stays, and so does every text of yours. Only images on this machine get an alt text; nothing else in a file
    changes, and each file is replaced whole. Where code in a page may give an alt text, the image is left and counted.

    The model knows photos. Of diagrams, screenshots and logos it says something wrong: look at --dry-run first.

    Exit status: 0 if no image lacks an alt text any more, 1 if some do, or could not be read, 2 for a usage error.
    """
    from capcli.outputs.alt.pages import Page, find_pages, has_pages, is_page
    from capcli.outputs.originals import folders_of
    from capcli.progress import CaptionBar
    from capcli.results import ImageError

    if check and dry_run:
        fail("--check writes nothing, so it cannot be combined with --dry-run")
    for path in site:
        if not os.path.exists(path):
            fail(f"{path}: no such file or folder")
        if not (os.path.isdir(path) or is_page(path)):
            fail(f"{path}: neither a folder nor HTML or Markdown, by its ending")
    if root is not None and not os.path.isdir(root):
        fail(f"--root {root}: no such folder")
    problems = 0

    def report(problem: object) -> None:
        nonlocal problems
        problems += 1
        say(problem)

    lacking: dict[tuple[str, str], None] = {}  # pages that can be improved, in their order, with their roots
    images: dict[str, None] = {}
    in_code: list[str] = []
    pages = list(find_pages(site, choosing.selection, report))
    for folder in filter(os.path.isdir, site):
        if folder not in {its_root for _, its_root in pages} and not has_pages(folder):
            fail(f"no HTML or Markdown in {folder}")
    for path, its_root in pages:
        try:
            page = Page.read(path, root or its_root)
        except ImageError as error:
            report(error)
            continue
        in_code += [f"{path}:{line}" for line in page.in_code]
        for missing in page.missing:
            place = f"{path}:{missing.line}: {missing.address}"
            if check:
                problems += 1
                show_lines(one_line(f"{place}: no alt text"))
            elif missing.gap.doubt:
                report(f"{place}: left as it is: {missing.gap.doubt}")
            elif not os.path.exists(missing.file):
                report(f"{place}: no such file")
            else:
                images[missing.file] = lacking[path, root or its_root] = None
    if images:
        captioner = load_captioner(model, choosing.max_pixels)
        results = zip(images, stream(captioner, list(images), batch_size, choosing.max_pixels), strict=True)
        texts: dict[str, str | ImageError] = {}
        told: set[str] = set()
        bar = CaptionBar(sys.stderr.isatty(), lambda: len(images))
        try:
            for path, its_root in lacking:
                try:
                    page = Page.read(path, its_root)  # again, as holding all pages would take too much memory
                    wanted = [each for each in page.missing if each.file in images and not each.gap.doubt]
                    while not texts.keys() >= {missing.file for missing in wanted}:
                        file, result = next(results)
                        texts[file] = alt_text(result, max_chars, unsure)
                        bar.update(len(texts), 0)
                    found = {file: text for file, text in texts.items() if isinstance(text, str)}
                    new = page.filled(found)
                    with bar.aside():
                        if dry_run:
                            sys.stdout.flush()
                            sys.stdout.buffer.write(page.diff(new))
                        elif new != page.text:
                            page.write(new, folders_of(site))
                        for missing in wanted:
                            text, place = texts[missing.file], f"{path}:{missing.line}: {missing.address}"
                            if isinstance(text, str) and not dry_run:
                                show_lines(one_line(f"{place}: {text}"))
                            elif isinstance(text, ImageError) and missing.file not in told:  # it may be on every page
                                told.add(missing.file)
                                report(f"{place}: {text.reason}")
                except ImageError as error:
                    report(error)
        finally:
            bar.close()
    if in_code:
        count = f"{len(in_code)} images are" if len(in_code) > 1 else "1 image is"
        say(f"{count} left to code in the page, which may give an alt text; the first is at {in_code[0]}")
    if problems:
        raise typer.Exit(1)


def stream(captioner: Captioner, images: list[str], batch_size: int, max_pixels: int) -> Iterator[Caption | ImageError]:
    """Yield captions for images, each with as many candidates as its search keeps."""
    from capcli.cli.process import one_core_per_batch

    one_core_per_batch(captioner, captioner.options)
    return captioner.stream(images, captioner.options.beam, None, batch_size, max_pixels)


def alt_text(result: Caption | ImageError, max_chars: int, unsure: bool) -> str | ImageError:
    """Return the best caption that is short enough, or why there is none.

    A caption that is too long is not cut: half a sentence tells a listener less than the next best one.

    unsure: whether those that the model is unsure of will do.
    """
    from capcli.results import ImageError

    if isinstance(result, ImageError):
        return result
    if result.unsure and not unsure:
        return ImageError(result.path, f"left as it is, as the model is unsure: {result.text}")
    short = (candidate.text for candidate in result.candidates if len(candidate.text) <= max_chars)
    return next(short, None) or ImageError(
        result.path, f"left as it is, as no caption has {max_chars} characters or less"
    )
