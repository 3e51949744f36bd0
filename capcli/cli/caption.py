"""`capcli caption`: caption images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from capcli.cli.loading import decoding_options, load_captioner
from capcli.cli.messages import absent, fail, fail_to_open, say
from capcli.cli.options import (
    BatchSize,
    ClusterOptions,
    Decoding,
    ModelOptions,
    Sources,
    Views,
    Writing,
    choose_format,
    grouped,
    one_of,
    refuse_others,
)
from capcli.cli.streams import STANDARD_OUTPUT, NoOutput, StandardOutput
from capcli.cli.views import open_views
from capcli.cli.writing import (
    add_keywords,
    check_caching,
    check_joining,
    check_keywords,
    check_placing,
    keep_best,
    name_machines_texts,
    open_cache,
    open_places,
    read_replacements,
    read_template,
    recall,
)

if TYPE_CHECKING:
    from capcli.images.shards import Shard
    from capcli.outputs.rows import Rows
    from capcli.results import Caption, ImageError


@grouped
def caption(
    sources: Sources,
    decoding: Decoding,
    writing: Writing,
    views: Views,
    model: ModelOptions,
    cluster: ClusterOptions,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATHS", help="Image files, folders, globs, or - for an image on stdin."),
    ] = None,
    num: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Give the N best captions, with their scores.")
    ] = 1,
    batch_size: BatchSize = 32,
    on_error: Annotated[str, one_of(("skip", "fail"), "Skip images that fail, or stop at the first one.")] = "skip",
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="List what would be captioned and where, and what would be skipped and why; write nothing.",
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Name the engine that captions, each skipped image with the reason, and texts inside images that no "
            "person wrote.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Hide the progress bar and the closing summary.")
    ] = False,
) -> None:
    """Caption images.

    For a single image file, print just its caption; for anything else, `path<TAB>caption` lines. JSON rows are {"path",
    "caption", "log_prob", "score"}: log_prob is the sum of the natural log-probabilities of the words and <end>, and
    captions are ranked by score = log_prob / nᵅ + W × agreement, where n counts the words and <end>, α is
    --length-penalty, W is --agreement, and agreement, −1 to 1, is how well caption and photo go together; a checkpoint
    that has not learnt that adds nothing. With --num, rows also have "candidates". An image that cannot be read costs
    one line on stderr and, in JSON, a row {"path", "error"}.

    A caption is marked as unsure if the image makes it hardly more likely than a blank picture would: rows have
    "unsure": true, and lines on a terminal end in (unsure). Where nothing would mark it, in other text, sidecars and
    metadata, it is left out unless --keep-unsure is given.

    An existing FILE is refused without --resume or --existing overwrite, and so is one that another run is writing.
    After Ctrl-C or a crash, --resume continues a jsonl, csv or tsv FILE; for sidecars and metadata, run the same
    command again. With --format parquet, FILE may be a FOLDER/, which gets a file for every thousand images and can be
    continued as well.

    Exit status: 0 if all images were captioned, 1 if some of them, the output or the cache failed, 2 for a usage
    error or a path that does not exist, 130 after Ctrl-C (128 plus the number of the signal).
    """
    import warnings

    from capcli.cli.process import one_core_per_batch
    from capcli.cli.run import Run, tell_nothing_found
    from capcli.cli.summary import Summary, check_summary, write_summary
    from capcli.files import OutputError
    from capcli.images.decode import STANDARD_INPUT
    from capcli.images.find import find_images, ignore, read_names
    from capcli.outputs.imagefolder import FILE, ImageFolderRows
    from capcli.outputs.parquet import is_folder
    from capcli.outputs.resume import check_output, check_rows, finished_images, how_to_go_on, open_rows
    from capcli.outputs.rows import Layout
    from capcli.progress import CaptionBar

    paths = paths or []
    if cluster.ray is not None:
        from capcli.cli.cluster import caption_on_cluster

        if on_error == "fail" or dry_run:
            fail(f"--{'dry-run' if dry_run else 'on-error fail'} cannot be combined with --ray")
        check_sources(paths, sources)
        check_presence([path for path in paths if "://" not in path], sources)
        caption_on_cluster(paths, cluster, sources, decoding, writing, views, model, num, batch_size, verbose, quiet)
        return
    refuse_others(cluster, (), "needs --ray")
    shard = read_shard(sources.shard)
    writing, views = fill_shard(writing, views, shard)
    shown = writing.output == STANDARD_INPUT  # which is - for stdout too
    output = None if shown else writing.output
    if writing.format == ImageFolderRows.name and is_folder(output):
        output = os.path.join(str(output), FILE)
    overwrite = writing.existing == "overwrite"
    check_sources(paths, sources)
    files: dict[str, str | Path | None] = {"--files-from": sources.files_from, "--output": output, "--html": views.html}
    files |= {"--summary": writing.summary, "--cache": writing.cache}
    kind = check_writing(output, writing, files, views, dry_run)
    template = read_template(writing.template)
    check_joining(writing, template, kind, num)
    most_keywords = check_keywords(writing, template, kind, views.html is not None)
    replacements = read_replacements(writing.replace)
    check_caching(writing.cache, decoding)
    check_presence(paths, sources)
    check_inputs(files, paths, model.model)

    files_from = sources.files_from
    one = len(paths) == 1 and files_from is None and (paths[0] == STANDARD_INPUT or os.path.isfile(paths[0]))
    layout = Layout(
        *(num, writing.min_score, template, not one, output is None and sys.stdout.isatty(), most_keywords > 0),
        "\n" if writing.separator is None else writing.separator,
        writing.keep_unsure,
    )
    places = open_places(paths, writing, files, template, num)

    def listing(pass_over: Callable[[str, str], object]) -> Iterator[str | ImageError]:
        yield from find_images(paths, sources.selection, pass_over)
        if files_from is not None:
            yield from read_names(files_from, sources.null)

    elsewhere = False

    def images(pass_over: Callable[[str, str], object] = ignore) -> Iterator[str | ImageError]:
        nonlocal elsewhere
        if shard is None:
            yield from listing(pass_over)
            return
        for image in listing(lambda path, reason: shard.takes(path) and pass_over(path, reason)):
            if shard.takes(image if isinstance(image, str) else image.path):
                yield image
            else:
                elsewhere = True

    try:
        check_rows(output, kind, layout, writing.resume, overwrite)
        check_output(views.html, overwrite)
        check_summary(writing.summary)
    except OutputError as error:
        fail(error)
    # Those who have captions written elsewhere do not want a screenful of them.
    unseen = not (shown or output or views.show) and bool(places or views.html) and sys.stdout.isatty()
    if dry_run:
        from capcli.cli.dry_run import Listing, list_images

        done = finished_images(output, kind, layout) if writing.resume and output else {}
        rows = kind(NoOutput("" if unseen else output or STANDARD_OUTPUT), layout, done)
        run = Run(rows, places, summary=Listing())
        besides = [os.fspath(view) for view in (views.html, views.attention) if view is not None]
        status = list_images(run, images(run.pass_over), besides, quiet)
        if not (run.found or run.skipped or elsewhere):
            status = tell_nothing_found(paths, files_from)
        raise typer.Exit(status)
    captioner = load_captioner(model, sources.max_pixels)
    options = decoding_options(captioner, decoding, num)
    one_core_per_batch(captioner, options)
    if verbose:
        say(f"captioning with {captioner.engine.name} on {captioner.device} in {captioner.precision}")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # Pillow's, about files that capcli reports itself
    # Not from a pipe: names that are counted could not be read again.
    countable = files_from is None or os.path.isfile(files_from)
    bar = CaptionBar(sys.stderr.isatty() and not quiet, (lambda: sum(1 for _ in images())) if countable else None)
    # Keywords come from all captions that are found anyway, and a cache keeps them.
    taken = options.found(num) if most_keywords or writing.cache is not None else num
    record = Summary(verbose, kept=writing.summary is not None)
    # With --resume too, for overlays that a stopped run drew without writing their row.
    with (
        open_views(captioner, views, num, overwrite or writing.resume) as opened,
        open_cache(writing.cache, captioner, taken, options, not opened, record.note) as cache,
    ):
        try:  # last, once all else is known to be in order
            if output is not None:
                rows = open_rows(output, kind, layout, writing.resume, overwrite)
            else:
                rows = kind(NoOutput() if unseen else StandardOutput(), layout)
        except OutputError as error:
            fail_to_open(error)
        run = Run(rows, [*places, *opened], on_error == "fail", record, cache, bool(options.ban))
        listed = images(run.pass_over)
        if verbose and (writing.write_metadata or writing.xmp is not None):
            listed = name_machines_texts(listed, record.note)
        to_do = run.to_do(listed)
        wanted = to_do if cache is None else recall(cache, to_do)
        photo_side = max((sink.photo_side for sink in opened), default=0)
        batches: Iterator[list[Caption | ImageError]]
        batches = captioner.batches(wanted, taken, options, batch_size, sources.max_pixels, photo_side)
        if cache is not None:
            batches = cache.remember(batches)
        if most_keywords:
            batches = add_keywords(batches, num, most_keywords, writing.min_keyword_score)
        elif taken > num:
            batches = keep_best(batches, num)
        status = run.execute(map(replacements.reword, batches), bar, quiet)
        if not (status or run.found or run.skipped):
            if elsewhere:  # as happens to small listings: no failure
                say(f"no image of the listing is in shard {sources.shard}")
            else:
                status = tell_nothing_found(paths, files_from)
        if writing.summary is not None:
            try:
                write_summary(writing.summary, record.as_json(run.counts(), status))
            except OutputError as error:
                say(error)
                status = status or 1
    if status > 128:
        say("interrupted" + how_to_go_on(rows if output else None, views.html is not None, places))
    if status:
        raise typer.Exit(status)


def check_sources(paths: list[str], sources: Sources) -> None:
    """Refuse arguments that name no images, or stdin twice. paths: the arguments."""
    from capcli.images.decode import STANDARD_INPUT

    if not paths and sources.files_from is None:
        fail("nothing to caption: give PATHS or --files-from FILE; see --help")
    if sources.null and sources.files_from is None:
        fail("--null needs --files-from")
    if paths.count(STANDARD_INPUT) > 1:
        fail("- stands for one image on stdin, and can be given only once")
    if sources.files_from == STANDARD_INPUT and STANDARD_INPUT in paths:
        fail("stdin cannot be both an image and --files-from")


def check_writing(
    output: str | None, writing: Writing, files: dict[str, str | Path | None], views: Views, dry_run: bool
) -> type[Rows]:
    """Return the format of the output, after refusing options that contradict each other.

    output: the file; None for stdout.
    writing, views: the options of these groups.
    files: those that options name, by option.
    dry_run: whether nothing is to be written.
    """
    from capcli.images.find import SUFFIXES
    from capcli.outputs.formats import RESUMABLE, format_for

    format = choose_format(writing.format, output)
    kind = format_for(format, output)
    if output is None and not kind.streams:
        fail(f"--format {format} needs --output FILE or --output FOLDER/")
    for option, name in (("--output", output), ("--summary", writing.summary), ("--cache", writing.cache)):
        if name is not None and os.path.splitext(name)[1].lower() in SUFFIXES:
            fail(f"{option} {name}: ends like an image's name; name another file")
    check_different(files)
    if dry_run and writing.summary:
        fail("--dry-run writes nothing, so it cannot be combined with --summary")
    replaceable = output or views.html or views.attention
    check_placing(writing, bool(replaceable))
    if writing.resume and (output is None or not kind.resumable):
        fail(f"--resume needs --output FILE in one of the formats {', '.join(RESUMABLE)}, or FOLDER/ for parquet")
    if views.html is not None and writing.resume:
        fail("a page shows one run: --html cannot be combined with --resume")
    if writing.template != "{caption}" and not (kind.templated or writing.into_images):
        fail(f"--template applies to text, imagefolder, --sidecar, --write-metadata and --xmp, not to {format}")
    if writing.keep_unsure and not (kind.templated or writing.into_images):
        fail(
            f"--keep-unsure is for text, imagefolder, --sidecar, --write-metadata and --xmp; {format} marks all of them"
        )
    if views.gif and views.attention is None:
        fail("--gif needs --attention")
    return kind


def check_different(files: dict[str, str | Path | None]) -> None:
    """Refuse two options that name the same file, since the content of one would be lost. files: by option."""
    seen: dict[str, str] = {}
    for option, name in files.items():
        real = os.path.realpath(name) if name is not None else ""
        if real in seen and (os.path.isfile(real) or not os.path.exists(real)):  # not for devices
            fail(f"{seen[real]} and {option} are the same file, {name}")
        if name is not None:
            seen[real] = option


def check_inputs(files: dict[str, str | Path | None], paths: list[str], model: str | None) -> None:
    """Refuse to write into an image to caption, or into the checkpoint.

    files: by option.
    paths: the arguments.
    model: the checkpoint's folder or name; None for the bundled one.
    """
    from capcli.checkpoints.card import CARD_FILE
    from capcli.checkpoints.store import CHECKPOINT_FILES, MEMORY_FILE

    parts = [os.path.join(model or "", name) for name in (*CHECKPOINT_FILES, MEMORY_FILE, CARD_FILE)]
    read = {os.path.realpath(path) for path in (*paths, *(parts if model else ()))}
    for option, name in files.items():
        if option != "--files-from" and name is not None and os.path.realpath(name) in read and os.path.isfile(name):
            fail(f"{option} {name}: is read by this command; name another file")


def read_shard(text: str | None) -> Shard | None:
    """Return the part of the listing that is meant, None for all of it, or fail with what is wrong with it."""
    from capcli.images.shards import parse_shard

    try:
        return None if text is None else parse_shard(text)
    except ValueError as error:
        fail(f"--shard {text}: {error}")


def fill_shard(writing: Writing, views: Views, shard: Shard | None) -> tuple[Writing, Views]:
    """Return the options with the shard in the names of the outputs that one run at a time writes to."""
    from capcli.images.shards import PLACEHOLDER

    def fill(option: str, name: Any) -> Any:
        if name is None or PLACEHOLDER not in str(name):
            return name
        if shard is None:
            fail(f"{option} {name}: {PLACEHOLDER} needs --shard I/N")
        return type(name)(str(name).replace(PLACEHOLDER, str(shard)))

    for option, name in (("--output", writing.output), ("--html", views.html)):
        if shard and writing.existing == "overwrite" and name not in (None, "-") and PLACEHOLDER not in str(name):
            fail(f"{option} {name}: each shard would replace the one before; put {PLACEHOLDER} into the name")
    writing = replace(writing, output=fill("--output", writing.output), summary=fill("--summary", writing.summary))
    return writing, replace(views, html=fill("--html", views.html), attention=fill("--attention", views.attention))


def check_presence(paths: list[str], sources: Sources) -> None:
    """Exit with a line for each argument that does not exist, before any work. paths: the arguments."""
    from capcli.images.decode import STANDARD_INPUT
    from capcli.images.find import check_arguments

    missing = check_arguments(paths)
    files_from = sources.files_from
    if files_from not in (None, STANDARD_INPUT) and not os.path.exists(files_from):
        missing.append(files_from)
    if files_from is not None and os.path.isdir(files_from):
        fail(f"--files-from {files_from}: is a folder")
    for path in missing:
        say(absent(path))
    if missing:
        raise typer.Exit(2)
