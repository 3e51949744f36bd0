"""The command line: parse, call, print. Everything heavy is imported where a command needs it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from capcli import __version__
from capcli.cli.help import Command
from capcli.cli.messages import say, show_lines
from capcli.cli.native import let_crashes_speak, silence_libtiff
from capcli.cli.signals import Interrupt, Stop
from capcli.cli.streams import STANDARD_OUTPUT, NoOutput, StandardOutput, flush_streams, open_streams, say_lost

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.sampling import DecodingOptions
    from capcli.results import Caption, ImageError

app = typer.Typer(
    name="capcli",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain messages, no panels, and no time spent on importing rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def finite(value: float | None) -> float | None:
    """For every option that takes a number with decimals: NaN and infinity compare and print as no number does."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|USER/NAME[@REVISION]",
        help="Use this checkpoint: a folder, or a repository on the Hugging Face Hub. Without it, or with `bundled`, "
        "the one that came with capcli.",
        show_default=False,
    ),
]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|mps", help="Run on this device; auto takes a GPU where there is one.")
]
NoRepeat = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Never say the same N words in a row twice; 0 allows it.  [default: the checkpoint's]"
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|bf16|fp16",
        help="Compute in this number format; auto is bf16 where the processor or GPU multiplies such numbers itself, "
        "otherwise fp32.",
    ),
]
Beam = Annotated[
    int | None,
    typer.Option(
        min=1, help="Keep this many sentences while searching; 1 is greedy search.  [default: the checkpoint's]"
    ),
]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Stop after this many words.  [default: the checkpoint's]")]
LengthPenalty = Annotated[
    float | None,
    typer.Option(
        min=-10,
        max=10,
        callback=finite,
        help="α in score = log_prob / nᵅ, where n counts the words and <end>; 0 ranks by log_prob.  "
        "[default: the checkpoint's]",
    ),
]
Sample = Annotated[bool, typer.Option("--sample", help="Draw words by their probability instead of searching.")]
Temperature = Annotated[
    float,
    typer.Option(
        min=0.01, callback=finite, help="With --sample: below 1 favours probable words, above 1 improbable ones."
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=1,
        callback=finite,
        help="With --sample: draw only from the likeliest words that together reach this probability.",
    ),
]
Diversity = Annotated[
    float,
    typer.Option(
        min=0,
        callback=finite,
        help="With --num: make the captions differ (diverse beam search, Vijayakumar et al. 2018); try 0.5.",
    ),
]
AttentionSamples = Annotated[
    int,
    typer.Option(
        min=0, help="With hard attention: average over this many sampled locations; 0 takes the likeliest one."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Make random draws repeatable.", show_default=False)]
BatchSize = Annotated[int, typer.Option(min=1, help="Put this many images through the model together.")]
Attention = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write a folder per image into DIR: a picture for each word, a contact sheet, and the weights as JSON.",
        show_default=False,
    ),
]
AttentionSize = Annotated[int, typer.Option(min=16, metavar="PIXELS", help="Longest side of a word's picture.")]
AttentionStyle = Annotated[
    str, typer.Option(metavar="heat|spotlight", help="Colour where the model looks, or darken the rest of the photo.")
]
AttentionScale = Annotated[
    str,
    typer.Option(
        metavar="word|caption",
        help="Draw each word at full strength, or compare it with the caption's strongest word, gates applied.",
    ),
]
Smooth = Annotated[bool, typer.Option("--smooth/--no-smooth", help="Interpolate, or show the raw cells.")]
Gif = Annotated[bool, typer.Option("--gif", help="With --attention: write an animation too.")]
Show = Annotated[bool, typer.Option("--show", help="Draw the attention in the terminal.")]
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write one page with all photos and captions; its words show where the model looked.",
        show_default=False,
        callback=lambda page: check_page(page),
    ),
]


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 some images failed, 2 usage, 128 and a signal's number stopped."""
    open_streams()
    let_crashes_speak()
    status: Any = 0
    try:
        with Interrupt():
            app()
    except SystemExit as end:
        status = end.code
        if isinstance(end, Stop):
            say("interrupted")
    except OSError as error:
        if not error.filename:
            raise
        say_lost(error.filename, error)
        status = 1
    sys.exit(status if flush_streams() else 1)


def fail(message: object, status: int = 2) -> NoReturn:
    """One line on stderr, and out."""
    say(message)
    raise typer.Exit(status)


def check_page(page: Path | None) -> Path | None:
    """`--html`: nothing but a page is to be replaced by one."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        fail(f"--html {page}: the name of a page ends in .html")
    return page


def check_different(*files: tuple[str, str | Path | None]) -> None:
    """Refuse two options that name the same file, of which what one holds would be lost."""
    seen: dict[str, str] = {}
    for option, name in files:
        real = os.path.realpath(name) if name is not None else ""
        if real in seen and (os.path.isfile(real) or not os.path.exists(real)):  # not for devices
            fail(f"{seen[real]} and {option} are the same file, {name}")
        if name is not None:
            seen[real] = option


def print_version(wanted: bool) -> None:
    """`--version`."""
    if wanted:
        typer.echo(f"capcli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Caption photos, and train the model that does."""


@app.command(cls=Command)
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
    from capcli.files import OutputError, OutputFile, is_writable
    from capcli.images.decode import STANDARD_INPUT
    from capcli.images.find import SUFFIXES, Selection, check_arguments, find_images, ignore, read_names
    from capcli.outputs.formats import FORMATS, Template, format_by_ending, make_writer
    from capcli.outputs.metadata import Metadata
    from capcli.outputs.originals import folders_of
    from capcli.outputs.resume import RESUMABLE, check_output, how_to_go_on, open_output, read_output
    from capcli.outputs.sidecars import EXISTING, Place, Sidecars, common_root

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

    selection = Selection(recursive, tuple(include or ()), tuple(exclude or ()))
    named = [path for path in paths if path != STANDARD_INPUT]
    root, folders = common_root(named), folders_of(named)
    places: list[Place] = []
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
        check_output(output, format, num, resume, overwrite, min_score)
        check_output(html, "html", num, False, overwrite)
        check_summary(summary)
    except OutputError as error:
        fail(error)
    # Whoever wants captions elsewhere wants no screen full of them.
    unseen = not (shown or output or show) and bool(places or html) and sys.stdout.isatty()
    file: OutputFile
    finished: dict[str, bool] = {}
    nothing = "no image in " + ", ".join([*paths, *([files_from] if files_from else [])])
    if dry_run:
        from capcli.cli.dry_run import Listing, list_images

        if resume and output and os.path.isfile(output):
            finished, _ = read_output(output, format, num, min_score)
        file = NoOutput("" if unseen else output or STANDARD_OUTPUT)
        run = Run(make_writer(format, file, True, num), file, tuple(places), finished=finished, summary=Listing())
        views = [os.fspath(view) for view in (html, attention) if view is not None]
        status = list_images(run, images(run.pass_over), views, quiet)
        if not run.found and not run.skipped:
            fail(nothing, 1)
        raise typer.Exit(status)
    captioner = load_captioner(model, device, precision, max_pixels)
    options = decoding_options(captioner, values)
    one_core_per_batch(captioner, options)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # Pillow's, about files that get their line of ours
    one = len(paths) == 1 and files_from is None and (paths[0] == STANDARD_INPUT or os.path.isfile(paths[0]))
    # Not from a pipe: what is counted would be lost to the captions.
    countable = files_from is None or os.path.isfile(files_from)
    total = (lambda: sum(1 for _ in images())) if countable else None
    resumable = output is not None and format in RESUMABLE
    bar = Bar(sys.stderr.isatty() and not quiet, total)
    replace = overwrite or resume  # overlays that a stopped run drew, and wrote no row for
    with open_views(
        captioner, attention, attention_size, attention_style, attention_scale, smooth, gif, show, html, num, replace
    ) as view:
        try:  # last, when all else is known to be good
            file = NoOutput() if unseen else StandardOutput()
            if output is not None:
                file, finished = open_output(output, format, num, resume, overwrite, min_score)
        except OutputError as error:
            fail(error)
        marks = output is None and sys.stdout.isatty()
        writer = make_writer(format, file, not one, num, shape, min_score, heading=not finished, marks=marks)
        record = Summary(verbose, kept=summary is not None)
        run = Run(writer, file, tuple(places), view, resumable, finished, min_score, on_error == "fail", record)
        wanted = run.to_do(images(run.pass_over))
        status = run.execute(captioner.batches(wanted, num, options, batch_size, max_pixels), bar, quiet)
        if summary is not None:
            try:
                write_summary(summary, record.as_json(run.counts(), status))
            except OutputError as error:
                say(error)
                status = status or 1
    if status > 128:
        say("interrupted" + how_to_go_on(output, resumable, html is not None, places))
    elif not status and not run.found and not run.skipped:
        fail(nothing, 1)
    if status:
        raise typer.Exit(status)


@app.command(cls=Command)
def explain(
    photo: Annotated[str, typer.Argument(metavar="PHOTO", help="Image file, or - for stdin.")],
    sentence: Annotated[
        str | None, typer.Argument(metavar="SENTENCE", help="What you say of it.", show_default=False)
    ] = None,
    text_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Compare many sentences, one per line.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with the weights of every word.")] = False,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    length_penalty: LengthPenalty = None,
    attention: Attention = None,
    attention_size: AttentionSize = 640,
    attention_style: AttentionStyle = "heat",
    attention_scale: AttentionScale = "word",
    smooth: Smooth = True,
    gif: Gif = False,
    show: Show = False,
    html: Html = None,
    existing: Annotated[
        str | None,
        typer.Option(metavar="overwrite", help="Replace a page or overlays that exist.", show_default=False),
    ] = None,
) -> None:
    """Let the model read your sentence over a photo, to check an alt text or to compare captions.

    For each word: its probability after the words before it, the natural logarithm of that, and how many times as
    likely the photo makes it as a blank picture does. A ? marks the words that the photo makes less than half as
    likely; words that the model does not know are named. Several sentences come ranked by what the photo gives them in
    all, as lines `gain<TAB>log_prob<TAB>sentence`, gain being a difference of log_probs.

    Exit status: 0 done, 1 the photo cannot be read, 2 usage.
    """
    from capcli.explain import as_line, as_row, as_table, ranked
    from capcli.explain import explain as read_sentences
    from capcli.files import OutputError
    from capcli.outputs.formats import dump
    from capcli.outputs.resume import check_output
    from capcli.results import ImageError

    overwrite = existing == "overwrite"
    if existing and not overwrite:
        fail(f"--existing {existing}: here only overwrite")
    if (sentence is None) == (text_file is None):
        fail("give a sentence or --text-file")
    if text_file is None:
        sentences = [str(sentence)]
    else:
        try:
            sentences = [line.strip() for line in text_file.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeError) as error:
            fail(f"{text_file}: {getattr(error, 'strerror', None) or error}")
        if not sentences:
            fail(f"{text_file}: no sentence in it")
    if photo != "-" and not os.path.exists(photo):
        fail(f"{photo}: no such file")
    try:
        check_output(html, "html", 1, False, overwrite)
    except OutputError as error:
        fail(error)
    captioner = load_captioner(model, device, precision)
    captioner.options = decoding_options(captioner, {"length_penalty": length_penalty})
    num = len(sentences)
    with open_views(
        captioner, attention, attention_size, attention_style, attention_scale, smooth, gif, show, html, num, overwrite
    ) as view:
        try:
            explained = ranked(read_sentences(captioner, photo, sentences))
        except ImageError as error:
            fail(error, 1)
        except ValueError as error:
            fail(error)
        if as_json:
            rows = [as_row(e) for e in explained]
            show_lines(dump(rows if text_file else rows[0]))
        else:
            for e in explained:
                show_lines(as_line(e))
                for line in () if text_file else as_table(e):
                    show_lines(line)
        try:
            wrong = [problem for e in explained for problem in view(e)]
        except OutputError as error:
            fail(error, 1)
        for problem in wrong:
            say(problem)
        if wrong:
            raise typer.Exit(1)


@app.command(cls=Command)
def bench(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="FOLDER", help="Measure with these images; without it, with made ones.", show_default=False
        ),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: BatchSize = 32,
    number: Annotated[int, typer.Option(min=1, help="Measure with at most this many images.")] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure how fast captioning is on this machine, and say what bounds it.

    For each stage, decode, encode, search and write: images per second of this stage alone, and its share of an image's
    work; then images per second of everything together. Loading PyTorch itself is not counted.

    Exit status: 0 done, 1 some images failed, 2 usage or no image at all.
    """
    import json
    import tempfile
    import time
    from itertools import islice

    from capcli.images.find import find_images
    from capcli.results import ImageError

    if folder is not None and not os.path.exists(folder):
        fail(f"{folder}: no such file or folder")
    import torch  # noqa: F401  # before the clock starts

    from capcli.bench import as_lines, make_images, measure
    from capcli.cli.process import one_core_per_batch

    started = time.perf_counter()
    captioner = load_captioner(model, device, precision)
    one_core_per_batch(captioner, captioner.options)
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            paths = make_images(Path(made), number)
        else:
            found = list(islice(find_images([folder]), number))
            paths = [path for path in found if isinstance(path, str)]
            for error in found:
                if isinstance(error, ImageError):
                    say(error)
        result = measure(captioner, paths, batch_size) if paths else {"failed": []}
    for failure in result["failed"]:
        say(failure)
    if "bound" not in result:
        fail(f"no image in {folder}")
    result = {"load_seconds": seconds, **result}
    typer.echo(json.dumps(result, indent=1) if as_json else "\n".join(as_lines(result)))
    if result["failed"]:
        raise typer.Exit(1)


@app.command(cls=Command)
def info(
    model: Model = None,
    device: Device = "auto",
    card: Annotated[bool, typer.Option("--card", help="Print the model card as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the model card.")] = False,
) -> None:
    """Describe a checkpoint: what it is, how good it is, and the device that it would run on."""
    import json

    from capcli.captioner import choose_device
    from capcli.checkpoints.caption_model import CaptionModel
    from capcli.checkpoints.card import as_text, describe_checkpoint
    from capcli.checkpoints.hub import find_checkpoint
    from capcli.checkpoints.store import ModelError

    try:
        folder = find_checkpoint(model)
        chosen = choose_device(device)
        description = describe_checkpoint(CaptionModel.load(folder).facts, folder, str(chosen))
    except (ModelError, ValueError) as error:
        fail(error)
    typer.echo(json.dumps(description, indent=1) if as_json else as_text(description, card))


@app.command(cls=Command)
def models(as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False) -> None:
    """List the checkpoints at hand: the bundled one and those downloaded from the Hugging Face Hub.

    One a line: what --model takes, the size, and the folder.
    """
    import json

    from capcli.checkpoints.hub import BUNDLED, bundled_checkpoint, cached_checkpoints
    from capcli.checkpoints.store import CHECKPOINT_FILES, ModelError

    rows: list[dict[str, Any]] = []
    try:
        bundled = bundled_checkpoint()
        size = sum((bundled / name).stat().st_size for name in CHECKPOINT_FILES)
        rows.append({"model": BUNDLED, "bytes": size, "folder": str(bundled)})
    except (ModelError, OSError) as error:
        say(error)
    rows += [{"model": c.name, "bytes": c.bytes, "folder": str(c.folder)} for c in cached_checkpoints()]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        width = max((len(row["model"]) for row in rows), default=0)
        for row in rows:
            show_lines(f"{row['model']:{width}}  {row['bytes'] / 1e6:7.1f} MB  {row['folder']}")


@app.command(cls=Command)
def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Checkpoint folder, as `capcli train` leaves it.")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Hub repository; created if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository for your eyes only.")] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Commit message.")] = "Upload a captioner",
) -> None:
    """Upload a trained captioner, with its model card, to the Hugging Face Hub.

    The token is HF_TOKEN, or the one that `hf auth login` stored. Four files go up, as one commit whose address is
    printed: config.json, vocabulary.json, model.safetensors and README.md, the card, which you may edit before.
    """
    from capcli.checkpoints.caption_model import push as push_run
    from capcli.checkpoints.store import ModelError

    try:
        typer.echo(push_run(run, repository, private, None, message))
    except ModelError as error:
        fail(error)


@app.command(cls=Command)
def train(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="Folder in the Flickr8k layout, folder with a JSON file, or JSON file; DATA=2 counts it twice.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="RUN", help="Keep checkpoints and the log in this folder.")
    ],
    resume: Annotated[bool, typer.Option(help="Go on after the last finished epoch of RUN.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Begin with this checkpoint: its architecture, its words and its decoding."
        ),
    ] = None,
    self_critical: Annotated[
        bool,
        typer.Option("--self-critical", help="Reward sampled captions by CIDEr-D (Rennie et al. 2017); needs --init."),
    ] = False,
    device: Device = "auto",
    precision: Annotated[
        str,
        typer.Option(metavar="auto|fp32|bf16", help="Compute in this number format, chosen as `capcli caption` does."),
    ] = "auto",
    epochs: Annotated[int, typer.Option(min=1, help="Show every photo this often.")] = 10,
    captions_per_batch: Annotated[int, typer.Option(min=1, help="Captions in a batch, up to five per photo.")] = 160,
    learning_rate: Annotated[float, typer.Option(callback=finite, help="The decoder's, at its highest.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(callback=finite, help="Of AdamW.")] = 0.01,
    average: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.99999,
            callback=finite,
            help="Keep a moving average of the weights with this decay, and use it in their place.",
        ),
    ] = 0.0,
    init_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            callback=finite,
            help="Mix --init's weights into the result with this share, so that what they knew is kept.",
        ),
    ] = 0.0,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="efficientnet_lite2, or from torchvision vgg16, resnet50, resnet101, mobilenet_v3_large, "
            "convnext_tiny.  [default: efficientnet_lite2]"
        ),
    ] = None,
    encoder_stride: Annotated[
        int | None, typer.Option(help="Pixels per grid cell; efficientnet_lite2 has 32 (7×7 cells at 224 px) and 16.")
    ] = None,
    encoder_weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="State dict of torchvision's network, instead of downloading ImageNet's."),
    ] = None,
    fine_tune: Annotated[bool, typer.Option("--fine-tune", help="Train the encoder too, on ever new crops.")] = False,
    encoder_learning_rate: Annotated[
        float, typer.Option(callback=finite, help="With --fine-tune: the encoder's.")
    ] = 5e-5,
    frozen_blocks: Annotated[
        int,
        typer.Option(
            min=0, help="With --fine-tune: leave the first N of the encoder's blocks as they are.", metavar="N"
        ),
    ] = 0,
    decoder: Annotated[
        str | None,
        typer.Option(
            metavar="pre-inject|par-inject|soft|hard", help="Let the image enter the LSTM this way.  [default: soft]"
        ),
    ] = None,
    feed_previous_word: Annotated[
        bool | None,
        typer.Option(
            "--feed-previous-word/--no-feed-previous-word",
            help="Feed the LSTM the previous word; the lecture notes have par-inject without.  [default: feed it]",
        ),
    ] = None,
    monte_carlo_samples: Annotated[
        int, typer.Option(min=1, help="With hard attention: locations drawn per caption.")
    ] = 1,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=32,
            help="Squash photos to a square of this side, in pixels.  [default: --init's, otherwise 224]",
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            min=1, help="Views of each photo: itself, mirrored, a crop, a mirrored crop, …; --fine-tune has its own."
        ),
    ] = 4,
    hidden_size: Annotated[int | None, typer.Option(min=1, help="Channels of the LSTM.  [default: 512]")] = None,
    embedding_size: Annotated[int | None, typer.Option(min=1, help="Channels of an embedding.  [default: 512]")] = None,
    attention_size: Annotated[
        int | None, typer.Option(min=1, help="Channels of the attention MLP.  [default: 512]")
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            callback=finite,
            help="Probability of dropout in the decoder.  [default: --init's, otherwise 0.5]",
        ),
    ] = None,
    label_smoothing: Annotated[
        float, typer.Option(min=0, max=1, callback=finite, help="Szegedy et al. 2016, §7.")
    ] = 0.1,
    attention_regularization: Annotated[
        float,
        typer.Option(min=0, callback=finite, help="λ of doubly stochastic attention (Xu et al. 2015)."),
    ] = 0.0,
    attention_boxes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Teach attention where people are; boxes as `evaluate --pointing` has them."),
    ] = None,
    min_count: Annotated[
        int | None, typer.Option(min=1, help="Learn only words seen at least this often.  [default: 4]")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Words in a caption at most.  [default: --init's, otherwise 20]")
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(min=1, help="Sentences kept while searching.  [default: --init's, otherwise 3]"),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(
            min=-10,
            max=10,
            callback=finite,
            help="α in score = log_prob / nᵅ.  [default: --init's, otherwise 1]",
        ),
    ] = None,
    no_repeat: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Never say the same N words in a row twice; 0 allows it.  [default: --init's, otherwise 0]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Draw initial weights, batches and dropout from this.")] = 1,
    feature_cache: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep encoded photos here, for other runs too; not with --fine-tune."),
    ] = None,
) -> None:
    """Train a captioner on photos with captions.

    Without --fine-tune the encoder stays as ImageNet left it. RUN gets the best checkpoint by dev CIDEr (a mean over
    the data sets' dev photos), ready for `capcli caption --model RUN`, a line per epoch in log.jsonl, and after each
    epoch what --resume needs.
    """
    values = dict(locals())
    import dataclasses
    import shlex

    from capcli.captioner import choose_device
    from capcli.cli.process import own_process
    from capcli.files import LockedFolder, OutputError
    from capcli.results import ImageError

    own_process()
    try:
        from capcli.checkpoints.store import WEIGHTS_FILE, ModelError
        from capcli.training.datasets import DataError
        from capcli.training.loop import train as train_captioner
        from capcli.training.options import TrainOptions
        from capcli.training.snapshot import LAST_FILE, LOG_FILE

        if not resume and any((output / name).exists() for name in (LAST_FILE, WEIGHTS_FILE)):
            fail(f"{output} holds a run; go on with --resume, or name another folder")
        if init is not None and output.resolve() == Path(init).resolve():
            fail(f"{output} is the checkpoint of --init; name another folder")
        if (output / WEIGHTS_FILE).exists() and not any((output / name).exists() for name in (LAST_FILE, LOG_FILE)):
            fail(f"{output} holds a checkpoint, but no run that could be resumed; name another folder")
        values["data"] = tuple(data)
        options = TrainOptions(**{field.name: values[field.name] for field in dataclasses.fields(TrainOptions)})
        command = shlex.join(["capcli", "train", *sys.argv[2:]]) if sys.argv[1:2] == ["train"] else None
        with closing(LockedFolder(output)):
            train_captioner(options, output, choose_device(device), feature_cache, resume, command)
    except ImportError as error:
        fail(f"training needs the extra packages: pip install 'capcli[train]' ({error})")
    except (DataError, ImageError, ModelError, ValueError) as error:
        fail(error)
    except OSError as error:
        fail(OutputError(error.filename, error) if error.filename else error)


@app.command(cls=Command)
def evaluate(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data set as `capcli train` takes it.")],
    split: Annotated[str, typer.Option(help="Caption the photos of this split.")] = "dev",
    model: Model = None,
    device: Device = "auto",
    precision: Precision = "auto",
    beam: Beam = None,
    max_length: MaxLength = None,
    length_penalty: LengthPenalty = None,
    no_repeat: NoRepeat = None,
    num: Annotated[int, typer.Option(min=1, help="Also measure how much the N best candidates of a photo differ.")] = 1,
    diversity: Diversity = 0.0,
    sample: Sample = False,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    attention_samples: AttentionSamples = 0,
    seed: Seed = None,
    batch_size: BatchSize = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every caption.")] = False,
    extremes: Annotated[bool, typer.Option("--extremes", help="Also show the ten best and worst by CIDEr.")] = False,
    pointing: Annotated[
        Path | None,
        typer.Option(
            metavar="BOXES",
            help='Instead of scores: how often words for people point at one. JSON, {"name.jpg": [[centre x, centre y, '
            "width, height], …]} in fractions of the photo.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Caption a data set's photos and score the captions.

    BLEU, METEOR, ROUGE-L and CIDEr as pycocoevalcap computes them, in percent. METEOR and the Penn Treebank tokenizer
    need Java; without it METEOR is left out and our own tokenizer takes the other's place, which moves the scores by
    a few tenths.
    """
    values = dict(locals())
    from capcli.cli.process import one_core_per_batch
    from capcli.outputs.formats import dump
    from capcli.results import ImageError

    try:
        from capcli.training.datasets import DataError, read_data_set
        from capcli.training.evaluation import as_lines, evaluate_captioner

        data_set = read_data_set(data)
        photos = data_set.require(split)
        captioner = load_captioner(model, device, precision)
        options = decoding_options(captioner, values)
        if pointing:
            require_attention(captioner, "--pointing")
        one_core_per_batch(captioner, options)
        typer.echo(f"captioning {len(photos)} photos on {captioner.device} in {captioner.precision}", err=True)
        if pointing:
            from capcli.training.pointing import as_lines as pointing_lines
            from capcli.training.pointing import measure_pointing, read_boxes

            points = measure_pointing(captioner, data_set, split, read_boxes(pointing), options, batch_size)
            show_lines(dump(points, indent=1) if as_json else "\n".join(pointing_lines(points)))
            return
        result = evaluate_captioner(captioner, data_set, split, options, batch_size, num)
    except ImportError as error:
        fail(f"evaluation needs the extra packages: pip install 'capcli[train]' ({error})")
    except (DataError, ImageError) as error:
        fail(error)
    if as_json:
        show_lines(dump(result, indent=1))
    else:
        show_lines("\n".join(as_lines(result, extremes)))


def load_captioner(model: str | None, device: str, precision: str, max_pixels: int = 100_000_000) -> Captioner:
    """A captioner, or one line and exit status 2."""
    from capcli.captioner import Captioner
    from capcli.checkpoints.store import ModelError
    from capcli.cli.process import own_process

    silence_libtiff()
    own_process(max_pixels)
    try:
        return Captioner.load(model, device, precision)
    except (ModelError, ValueError) as error:
        fail(error)


def require_attention(captioner: Captioner, option: str) -> None:
    """One line and exit status 2 for a checkpoint that has nothing to show."""
    config = captioner.model.config
    if not config.decoder_kind.attends:
        fail(f"{option}: this checkpoint's decoder, {config.decoder}, has no attention to show")


@contextmanager
def open_views(
    captioner: Captioner,
    attention: Path | None,
    attention_size: int,
    attention_style: str,
    attention_scale: str,
    smooth: bool,
    gif: bool,
    show: bool,
    html: Path | None,
    num: int,
    overwrite: bool,
) -> Iterator[Callable[[Caption | ImageError], list[ImageError]]]:
    """A function that puts a result into every wanted view of the attention and returns what went wrong with it.

    Says what is wrong with the options before any work, and completes what was begun however the block is left. The
    function raises OutputError where nothing more can be written.
    """
    if not (attention or show or html):
        yield lambda result: []
        return
    from capcli.cli.run import collecting
    from capcli.files import OutputError
    from capcli.maps.folders import AttentionFolders
    from capcli.maps.overlay import SCALES, STYLES, OverlayOptions
    from capcli.maps.terminal import TerminalPictures, why_not
    from capcli.outputs.resume import check_output

    for option, value, known in (
        ("--attention-style", attention_style, STYLES),
        ("--attention-scale", attention_scale, SCALES),
    ):
        if value not in known:
            fail(f"{option} {value}: not one of {', '.join(known)}")
    if attention or show:
        require_attention(captioner, "--attention" if attention else "--show")
    if show and (reason := why_not(sys.stdout)):
        say(f"--show draws nothing: {reason}")
        show = False
    options = OverlayOptions(attention_size, attention_style, attention_scale, smooth, gif)

    views: list[TerminalPictures | AttentionFolders | HtmlReport] = []

    def put(result: Caption | ImageError) -> list[ImageError]:
        errors: list[ImageError] = []
        for opened in views:
            with collecting(errors, result.path, about=opened.path):
                opened.write(result)
        return errors

    def close(opened: AttentionFolders | HtmlReport) -> None:
        try:
            opened.close()
        except OutputError as error:
            fail(error, 1)

    with ExitStack() as stack:
        try:
            if show:
                views.append(TerminalPictures(sys.stdout, options))
            if html:
                check_output(html, "html", num, False, overwrite)  # another run may have made it meanwhile
                from capcli.maps.page import HtmlReport  # here, as nothing else needs Jinja

                page = HtmlReport(html, options, num)
                stack.callback(close, page)
                views.append(page)
            if attention:
                folders = AttentionFolders(attention, options, overwrite)
                stack.callback(close, folders)
                views.append(folders)
        except OutputError as error:
            fail(error)
        except OSError as error:
            fail(OutputError(error.filename or attention or "", error))
        yield put


def decoding_options(captioner: Captioner, values: dict[str, Any]) -> DecodingOptions:
    """The checkpoint's decoding, with those of a command's values that are named like its entries, and are not None, in
    their place."""
    from dataclasses import fields, replace

    asked = {field.name: values.get(field.name) for field in fields(captioner.options)}
    if asked["sample"] and asked["diversity"]:
        fail("--sample and --diversity are two ways to decode: take one")
    try:
        options = replace(captioner.options, **{name: value for name, value in asked.items() if value is not None})
    except ValueError as error:
        fail(error)
    if options.diversity and values["num"] < 2:
        fail("--diversity goes with --num 2 or more: it is between candidates")
    if not options.sample and (options.temperature != 1 or options.top_p != 1):
        fail("--temperature and --top-p go with --sample")
    if options.attention_samples and not captioner.model.config.decoder_kind.samples_locations:
        fail(
            "--attention-samples needs a checkpoint with hard attention; this one's decoder is "
            f"{captioner.model.config.decoder}"
        )
    return options
