"""`capcli caption`: captions of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from capcli.cli.loading import decoding_options, load_captioner
from capcli.cli.messages import fail, say
from capcli.cli.options import (
    Attention,
    AttentionSamples,
    AttentionScale,
    AttentionSize,
    AttentionStyle,
    BatchSize,
    Beam,
    Device,
    Diversity,
    Gif,
    Html,
    LengthPenalty,
    MaxLength,
    Model,
    NoRepeat,
    Precision,
    Sample,
    Seed,
    Show,
    Smooth,
    Temperature,
    TopP,
    finite,
)
from capcli.cli.streams import STANDARD_OUTPUT, NoOutput, StandardOutput
from capcli.cli.views import open_views

if TYPE_CHECKING:
    from capcli.results import ImageError


def caption(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATHS", help="Image files, folders, globs, or - for an image on stdin."),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    beam: Beam = None,
    num: Annotated[int, typer.Option(min=1, help="Give the N best captions, with their scores.")] = 1,
    max_length: MaxLength = None,
    length_penalty: LengthPenalty = None,
    no_repeat: NoRepeat = None,
    sample: Sample = False,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    diversity: Diversity = 0.0,
    attention_samples: AttentionSamples = 0,
    seed: Seed = None,
    batch_size: BatchSize = 32,
    recursive: Annotated[bool, typer.Option(help="Look into subfolders.")] = True,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="In folders, take only files like this; a glob with a slash is matched against the path.  "
            "[repeatable]",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="In folders, leave out files and subfolders like this.  [repeatable]"),
    ] = None,
    files_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the names of images from FILE (- for stdin), one per line.")
    ] = None,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Names in that file end in NUL, as find -print0 writes them.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to FILE instead of stdout (-), which gets nothing where it is a terminal and captions go to "
            "sidecars, metadata or a page.",
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="text|json|jsonl|csv|tsv", help="Write in this format.  [default: by FILE's ending, text on stdout]"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the output where an earlier run stopped.")
    ] = False,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Also write photo.txt beside photo.jpg.")] = False,
    output_dir: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Put sidecars into this folder instead, in a tree like the images'."),
    ] = None,
    write_metadata: Annotated[
        bool, typer.Option("--write-metadata", help="Also write captions into the images (JPEG, PNG, WebP, TIFF).")
    ] = False,
    touch: Annotated[
        bool,
        typer.Option(
            "--touch",
            help="Let images that captions are written into get a new modification time; without it they keep theirs.",
        ),
    ] = False,
    existing: Annotated[
        str | None,
        typer.Option(
            metavar="skip|overwrite|append|prepend|fail",
            help="What to do where a sidecar or metadata hold a caption; overwrite replaces FILE, pages and overlays "
            "too.  [default: skip]",
        ),
    ] = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="What text, sidecars and metadata say; also {name} {path} {score}.")
    ] = "{caption}",
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="S", callback=finite, help="Leave captions empty that score less than S.", show_default=False
        ),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, metavar="N", help="Refuse images of more than N pixels.")
    ] = 100_000_000,
    on_error: Annotated[
        str, typer.Option(metavar="skip|fail", help="After an image that fails, go on or stop.")
    ] = "skip",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be captioned, skipped and why, and written where.")
    ] = False,
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write counts, and what failed or was skipped and why, as JSON; replaces an earlier summary.",
            show_default=False,
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name each skipped image, and say why.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show neither the progress bar nor the summary.")
    ] = False,
    attention: Attention = None,
    attention_size: AttentionSize = 640,
    attention_style: AttentionStyle = "heat",
    attention_scale: AttentionScale = "word",
    smooth: Smooth = True,
    gif: Gif = False,
    show: Show = False,
    html: Html = None,
) -> None:
    """Caption images.

    One image file gives its caption alone, anything else `path<TAB>caption` lines. JSON rows are {"path", "caption",
    "log_prob", "score"}: log_prob is the sum of the natural log-probabilities of the words and <end>, and the score
    that ranks is log_prob / nᵅ, n counting the words and <end>, α the length penalty. With --num they have
    "candidates" too. An image that cannot be read costs one line on stderr, and in JSON a row {"path", "error"}.

    A caption is unsure where the image makes it hardly more likely than a blank picture does: rows have "unsure": true,
    lines on a terminal end in (unsure). Nothing else changes.

    A FILE that exists is refused without --resume or --existing overwrite, and so is one that another run writes. After
    Ctrl-C or a crash, --resume goes on with a jsonl, csv or tsv FILE; sidecars and metadata need no more than the same
    command again.

    Exit status: 0 all captioned, 1 some images failed or the output did, 2 usage or no such path, 130 interrupted (128
    and the number of the signal).
    """
    values = dict(locals())
    import warnings

    from capcli.cli.process import one_core_per_batch
    from capcli.cli.progress import Bar
    from capcli.cli.run import Run
    from capcli.cli.summary import Summary, check_summary, write_summary
    from capcli.files import OutputError, is_writable
    from capcli.images.decode import STANDARD_INPUT
    from capcli.images.find import SUFFIXES, Selection, check_arguments, find_images, ignore, read_names
    from capcli.outputs.existing import EXISTING
    from capcli.outputs.formats import FORMATS, RESUMABLE, Layout, format_by_ending
    from capcli.outputs.metadata import Metadata
    from capcli.outputs.originals import folders_of
    from capcli.outputs.resume import check_output, check_rows, how_to_go_on, open_rows, read_rows
    from capcli.outputs.sidecars import Sidecars, common_root
    from capcli.outputs.sink import Sink
    from capcli.outputs.template import Template

    paths = paths or []
    shown = output == STANDARD_INPUT  # which is - for stdout too
    output = None if shown else output
    if not paths and files_from is None:
        fail("nothing to caption: name PATHS or --files-from FILE; --help says more")
    if null and files_from is None:
        fail("--null goes with --files-from")
    if paths.count(STANDARD_INPUT) > 1:
        fail("stdin is one image, and - can stand for it once")
    if files_from == STANDARD_INPUT and STANDARD_INPUT in paths:
        fail("stdin cannot be both an image and --files-from")
    if format is None and (format := format_by_ending(output)) is None:
        fail(f"{output}: its ending says no format; give --format {'|'.join(FORMATS)}")
    for option, value, known in (
        ("format", format, FORMATS),
        ("existing", existing or "skip", EXISTING),
        ("on-error", on_error, ("skip", "fail")),
    ):
        if value not in known:
            fail(f"--{option} {value}: not one of {', '.join(known)}")
    for option, name in (("--output", output), ("--summary", summary)):
        if name is not None and os.path.splitext(name)[1].lower() in SUFFIXES:
            fail(f"{option} {name}: has the ending of an image, and might be one")
    check_different(("--files-from", files_from), ("--output", output), ("--html", html), ("--summary", summary))
    if dry_run and summary:
        fail("--dry-run writes nothing: it cannot go with --summary")
    if output_dir is not None and not sidecar:
        fail("--output-dir goes with --sidecar")
    if output_dir is not None and not is_writable(output_dir):
        fail(f"--output-dir {output_dir}: no file can be put there")
    if touch and not write_metadata:
        fail("--touch goes with --write-metadata")
    overwrite = existing == "overwrite"
    if existing and not (sidecar or write_metadata or ((output or html or attention) and overwrite)):
        fail(f"--existing {existing} goes with --sidecar or --write-metadata")
    if resume and (output is None or format not in RESUMABLE):
        fail(f"--resume needs --output FILE and one of the formats {', '.join(RESUMABLE)}")
    if html is not None and resume:
        fail("--html holds the images of one run: it cannot go with --resume")
    if template != "{caption}" and format != "text" and not (sidecar or write_metadata):
        fail(f"--template goes with text, --sidecar and --write-metadata, not with {format}")
    if gif and attention is None:
        fail("--gif goes with --attention")
    try:
        shape = Template(template)
    except (ValueError, IndexError, KeyError) as error:
        fail(f"--template {template!r}: {error}")
    absent = check_arguments(paths)
    if files_from not in (None, STANDARD_INPUT) and not os.path.exists(files_from):
        absent.append(files_from)
    if files_from is not None and os.path.isdir(files_from):
        fail(f"--files-from {files_from}: is a folder")
    for path in absent:
        say(f"{path}: no such file or folder")
    if absent:
        raise typer.Exit(2)

    kind = FORMATS[format]
    one = len(paths) == 1 and files_from is None and (paths[0] == STANDARD_INPUT or os.path.isfile(paths[0]))
    layout = Layout(num, min_score, shape, not one, output is None and sys.stdout.isatty())
    selection = Selection(recursive, tuple(include or ()), tuple(exclude or ()))
    named = [path for path in paths if path != STANDARD_INPUT]
    root, folders = common_root(named), folders_of(named)
    places: list[Sink] = []
    if sidecar:
        sidecars = Sidecars(existing or "skip", shape, num, min_score, output_dir, root, folders)
        for option, name in (("--output", output), ("--summary", summary)):
            if name is not None:
                sidecars.keep_off(os.fspath(name), option)
        places.append(sidecars)
    if write_metadata:
        places.append(Metadata(existing or "skip", shape, min_score, folders, touch))

    def images(pass_over: Callable[[str], object] = ignore) -> Iterator[str | ImageError]:
        yield from find_images(paths, selection, pass_over)
        if files_from is not None:
            yield from read_names(files_from, null)

    try:
        check_rows(output, kind, layout, resume, overwrite)
        check_output(html, overwrite)
        check_summary(summary)
    except OutputError as error:
        fail(error)
    # Whoever wants captions elsewhere wants no screen full of them.
    unseen = not (shown or output or show) and bool(places or html) and sys.stdout.isatty()
    nothing = "no image in " + ", ".join([*paths, *([files_from] if files_from else [])])
    if dry_run:
        from capcli.cli.dry_run import Listing, list_images

        done = read_rows(output, kind, layout)[0] if resume and output and os.path.isfile(output) else {}
        rows = kind(NoOutput("" if unseen else output or STANDARD_OUTPUT), layout, done)
        run = Run(rows, places, summary=Listing())
        besides = [os.fspath(view) for view in (html, attention) if view is not None]
        status = list_images(run, images(run.pass_over), besides, quiet)
        if not run.found and not run.skipped:
            fail(nothing, 1)
        raise typer.Exit(status)
    captioner = load_captioner(model, device, precision, max_pixels)
    options = decoding_options(captioner, values)
    one_core_per_batch(captioner, options)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # Pillow's, about files that get their line of ours
    # Not from a pipe: what is counted would be lost to the captions.
    countable = files_from is None or os.path.isfile(files_from)
    total = (lambda: sum(1 for _ in images())) if countable else None
    bar = Bar(sys.stderr.isatty() and not quiet, total)
    replace = overwrite or resume  # overlays that a stopped run drew, and wrote no row for
    with open_views(
        captioner, attention, attention_size, attention_style, attention_scale, smooth, gif, show, html, num, replace
    ) as views:
        try:  # last, when all else is known to be good
            if output is not None:
                rows = open_rows(output, kind, layout, resume, overwrite)
            else:
                rows = kind(NoOutput() if unseen else StandardOutput(), layout)
        except OutputError as error:
            fail(error)
        record = Summary(verbose, kept=summary is not None)
        run = Run(rows, [*places, *views], on_error == "fail", record)
        wanted = run.to_do(images(run.pass_over))
        status = run.execute(captioner.batches(wanted, num, options, batch_size, max_pixels), bar, quiet)
        if summary is not None:
            try:
                write_summary(summary, record.as_json(run.counts(), status))
            except OutputError as error:
                say(error)
                status = status or 1
    if status > 128:
        say("interrupted" + how_to_go_on(rows if output else None, html is not None, places))
    elif not status and not run.found and not run.skipped:
        fail(nothing, 1)
    if status:
        raise typer.Exit(status)


def check_different(*files: tuple[str, str | Path | None]) -> None:
    """Refuse two options that name the same file, of which what one holds would be lost."""
    seen: dict[str, str] = {}
    for option, name in files:
        real = os.path.realpath(name) if name is not None else ""
        if real in seen and (os.path.isfile(real) or not os.path.exists(real)):  # not for devices
            fail(f"{seen[real]} and {option} are the same file, {name}")
        if name is not None:
            seen[real] = option
