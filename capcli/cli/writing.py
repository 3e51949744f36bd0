"""Options for writing captions: checked, read, and made into sinks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.cli.messages import fail
from capcli.cli.options import Writing
from capcli.installing import install_line

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.options import DecodingOptions
    from capcli.images.watch import Watch
    from capcli.outputs.cache import CaptionCache
    from capcli.outputs.replacements import Replacements
    from capcli.outputs.sink import Sink
    from capcli.outputs.template import Template
    from capcli.outputs.written import Written
    from capcli.results import Caption, ImageError

LOOKED_AHEAD = 64  # images looked up in the cache ahead of their turn


def read_template(text: str) -> Template:
    """Return a text's template, or exit with a line."""
    from capcli.outputs.template import Template

    try:
        return Template(text)
    except (ValueError, IndexError, KeyError) as error:
        fail(f"--template {text!r}: {error}")


def add_keywords(
    batches: Iterable[list[Caption | ImageError]], num: int, most: int
) -> Iterator[list[Caption | ImageError]]:
    """Yield batches with keywords. num, most: as in `all_with_keywords`."""
    from capcli.outputs.keywords import all_with_keywords

    for batch in batches:
        yield all_with_keywords(batch, num, most)


def keep_best(batches: Iterable[list[Caption | ImageError]], num: int) -> Iterator[list[Caption | ImageError]]:
    """Yield batches with each caption's first `num` candidates, 1 or more."""
    from dataclasses import replace

    for batch in batches:
        yield [
            each if isinstance(each, Exception) else replace(each, candidates=each.candidates[:num]) for each in batch
        ]


@contextlib.contextmanager
def open_cache(
    path: str | None,
    captioner: Captioner,
    num: int,
    options: DecodingOptions,
    reads: bool,
    tell: Callable[[str], object],
    in_memory: bool = False,
) -> Iterator[CaptionCache | None]:
    """Open the cache, if any, for the block, or exit with a line.

    num, options: of the captions.
    reads: whether to take captions from it.
    tell: gets a line about later failures.
    in_memory: whether to have one without a path, too.
    """
    if path is None and not in_memory:
        yield None
        return
    from capcli.files import OutputError
    from capcli.outputs.cache import CaptionCache

    try:
        with OutputError.about(captioner.folder or ""):
            model = captioner.fingerprint(num, options)
        cache = CaptionCache(path, model, reads, tell)
    except OutputError as error:
        fail(error)
    with contextlib.closing(cache):
        yield cache


def name_machines_texts(
    images: Iterable[str | ImageError], note: Callable[[str], object]
) -> Iterator[str | ImageError]:
    """Yield images, noting which of their texts seem a camera's or a program's. note: gets the lines."""
    import textwrap

    from capcli.outputs.metadata import read_image
    from capcli.results import ImageError

    for image in images:
        with contextlib.suppress(ImageError):  # whoever needs the image will report it
            for text in read_image(image).machines_texts if isinstance(image, str) else ():
                note(f"{image}: written by a camera or a program, not by a person: {textwrap.shorten(text, 80)}")
        yield image


def open_watch(folders: list[str], recursive: bool) -> Watch:
    """Return what waits for images in folders, or exit with a line."""
    from capcli.images.watch import Watch

    try:
        return Watch(folders, recursive)
    except ImportError:
        fail(f"--watch needs an extra package: {install_line('watch')}")


def recall(cache: CaptionCache, images: Iterator[str | ImageError]) -> Iterator[str | Caption | ImageError]:
    """Return images, with Captions for those in the cache; threads look ahead."""
    from capcli.outputs.cache import look
    from capcli.streaming import ahead

    return cache.recall(ahead(look, images, LOOKED_AHEAD))


def read_replacements(pairs: tuple[str, ...]) -> Replacements:
    """Return the replacements for words, or exit with a line."""
    from capcli.outputs.replacements import Replacements

    try:
        return Replacements(pairs)
    except ValueError as error:
        fail(f"--replace: {error}")


def read_written(path: str | None) -> Written | None:
    """Return what remembers texts in a cache; None for no cache."""
    if path is None:
        return None
    from capcli.outputs.written import Written  # loads SQLite

    return Written(path)


def signed(
    batches: Iterable[list[Caption | ImageError]], by: str, written: Written | None
) -> Iterator[list[Caption | ImageError]]:
    """Yield batches with signed captions. written: remembers them."""
    from dataclasses import replace

    for batch in batches:
        if written is not None:
            for each in batch:
                if not isinstance(each, Exception):
                    written.say(each.path, each.text, by)
            written.flush()
        yield [each if isinstance(each, Exception) else replace(each, by=by) for each in batch]


def open_places(
    paths: list[str],
    writing: Writing,
    files: Mapping[str, str | Path | None],
    template: Template,
    num: int,
    written: Written | None = None,
) -> list[Sink]:
    """Return the sinks that keep captions beside images or inside them.

    paths: the arguments.
    files: by option; no sidecar may take one.
    num: candidates per image, 1 or more.
    written: remembers texts beside images.
    """
    from capcli.images.decode import STANDARD_INPUT
    from capcli.outputs.originals import folders_of
    from capcli.outputs.sidecars import ENDING, Beside, Sidecars, common_root

    named = [path for path in paths if path != STANDARD_INPUT]
    existing, folders, fields = writing.existing or "skip", folders_of(named), tuple(writing.fields.split(","))
    sidecars: list[Beside] = []
    if writing.sidecar:
        root = common_root(named)
        ending = writing.sidecar_ext or ENDING
        place = (writing.output_dir, root, folders, ending)
        sidecars.append(Sidecars(existing, template, num, *place, writing.separator, written))
    if writing.xmp is not None:  # before metadata, as an image that holds a caption gets no XMP sidecar
        from capcli.outputs.xmp_sidecars import XmpSidecars

        sidecars.append(XmpSidecars(existing, template, folders, not writing.xmp, fields, writing.separator))
    for each in sidecars:
        for option, name in files.items():
            if name not in (None, STANDARD_INPUT):
                each.keep_off(os.fspath(name), option)
    places: list[Sink] = [*sidecars]
    if writing.write_metadata:
        from capcli.outputs.metadata import Metadata

        places.append(Metadata(existing, template, folders, fields, writing.separator))
    return places
