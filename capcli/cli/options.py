"""The options of several commands, each declared once, in groups that a command takes as a whole."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

from capcli.cli.messages import fail
from capcli.decoding.options import DecodingOptions
from capcli.engines.choose import ENGINES
from capcli.installing import install_line
from capcli.model.config import TunedDecoding
from capcli.outputs.existing import EXISTING, FIELDS
from capcli.outputs.formats import FORMATS, format_by_ending
from capcli.settings import Setting, range_of, settings

if TYPE_CHECKING:
    from capcli.images.find import Selection

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
STYLES = ("heat", "spotlight")
SCALES = ("word", "caption")


@dataclass(frozen=True)
class Changes:
    """Mark a parameter of a command that takes those settings of a dataclass that were given, by name.

    kind: the dataclass.
    names: the settings that are options; empty for all.
    default: what help says of settings that TunedDecoding has, whose values are the checkpoint's.
    """

    kind: type
    names: tuple[str, ...] = ()
    default: str = "the checkpoint's"

    def options(self) -> Iterator[inspect.Parameter]:
        """Yield an option for each setting; it is None where it was not given."""
        hints, defaults = get_type_hints(self.kind), {f.name: f.default for f in dataclasses.fields(self.kind)}
        for name, declared in settings(self.kind).items():
            if self.names and name not in self.names:
                continue
            told = declared.told or (self.default if name in settings(TunedDecoding) else defaults[name])
            about = "repeatable" if declared.several else f"default: {told}"
            text = declared.help + (f"  [{about}]" if about and told not in (None, False) else "")
            flags = declared.flags or (f"--{name.replace('_', '-')}",)
            plain = list[str] if declared.several else hints[name]
            metavar = None if plain in (bool, bool | None) else declared.metavar
            if declared.choices:
                option = one_of(declared.choices, text, None if declared.metavar == Setting.metavar else metavar)
            else:
                option = typer.Option(*flags, help=text, show_default=False, metavar=metavar)
            annotation = Annotated[plain | None, option]  # type: ignore[valid-type]
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def given(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take the settings out of a command's values, and return those that were given, or exit for a wrong one."""
        found = {}
        for name, declared in settings(self.kind).items():
            if self.names and name not in self.names:
                continue
            if (value := values.pop(name)) is None:
                continue
            if isinstance(value, int | float) and not declared.low <= value <= declared.high:
                fail(f"--{name.replace('_', '-')} {value}: not {range_of(declared)}")
            found[name] = tuple(value) if isinstance(value, list) else value
        return found


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function for Typer that takes groups of options one option at a time.

    function: a command; parameters of it that are dataclasses are groups, and each of their fields is an option, and so
        are the settings of those that are marked by Changes.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    changes = {n: mark for n, kind in hints.items() for mark in get_args(kind)[1:] if isinstance(mark, Changes)}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in changes:
            flat += changes[parameter.name].options()
            continue
        if parameter.name not in groups:
            flat.append(parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        group = groups[parameter.name]
        annotations = get_type_hints(group, include_extras=True)
        flat += [
            inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=annotations[field.name]
            )
            for field in dataclasses.fields(group)
        ]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        made: dict[str, Any] = {
            name: group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        made |= {name: mark.given(values) for name, mark in changes.items()}
        function(**made, **values)

    command.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return command


def one_of(names: Iterable[str], help: str, metavar: str | None = None) -> Any:
    """Return an option that takes one of several names, which a shell can complete.

    names: the values that it takes.
    help: the text for --help.
    metavar: what the help shows in place of the value; None for the names.
    """
    known = tuple(names)

    def check(parameter: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in known:
            fail(f"{parameter.opts[0]} {value}: not one of {', '.join(known)}")
        return value

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return typer.Option(metavar=metavar or "|".join(known), help=help, callback=check, autocompletion=complete)


def choose_format(asked: str | None, output: str | None) -> str:
    """Return the name of an output's format, or fail if nothing tells it.

    asked: the value of --format; None goes by the file's ending.
    output: the file; None for stdout.
    """
    name = asked or format_by_ending(output)
    if name is None and (str(output).endswith(("/", os.sep)) or os.path.isdir(str(output))):
        fail(f"{output}: is a folder; name a file in it, or add --format parquet or imagefolder")
    if name is None:
        fail(f"{output}: unknown ending; choose a format with --format {'|'.join(FORMATS)}")
    return name


def refuse_others(options: Any, allowed: Collection[str], why: str) -> None:
    """Refuse options of a group that have another value than their default.

    options: a group of options.
    allowed: the names of those that are not refused.
    why: the end of the message.
    """
    for field in dataclasses.fields(options):
        if field.name not in allowed and getattr(options, field.name) != field.default:
            fail(f"--{field.name.replace('_', '-')} {why}")


def finite(value: float | None) -> float | None:
    """Return a number, after refusing NaN and infinity, which ranges let pass; None is passed on."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def check_board(asked: bool) -> bool:
    """Return whether event files are to be written, after refusing it where TensorBoard is missing."""
    if asked and find_spec("tensorboard") is None:
        fail(f"--tensorboard needs an extra package: {install_line('tensorboard')}")
    return asked


def check_page(page: Path | None) -> Path | None:
    """Return the name of a page, after refusing one that may be another kind of file; None is passed on."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        fail(f"--html {page}: the name of a page must end in .html")
    return page


def check_fields(fields: str) -> str:
    """Return a list of fields, after refusing one that names others, or none."""
    for name in fields.split(","):
        if name not in FIELDS:
            fail(f"--fields {fields}: {name!r} is not one of {', '.join(FIELDS)}")
    return fields


def check_ending(ending: str | None) -> str | None:
    """Return the ending of sidecars with its dot, after refusing those of other files; None is passed on."""
    if ending is None:
        return None
    from capcli.images.find import SUFFIXES

    dotted = "." + ending.removeprefix(".")
    if dotted.lower() in (".", ".xmp") or dotted.lower() in SUFFIXES or set(ending) & set("/\\"):
        reason = "XMP sidecars are what --xmp writes" if dotted.lower() == ".xmp" else "not an ending for text files"
        fail(f"--sidecar-ext {ending}: {reason}")
    return dotted


def complete_device(incomplete: str) -> list[str]:
    """Return the devices that a shell offers after what is typed; others, such as `cuda:1`, can be typed out."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|USER/NAME[@REVISION]",
        help="Checkpoint to use: a folder, or a repository on the Hugging Face Hub.  [default: bundled, the one that "
        "came with capcli]",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|mps",
        help="Device to run on; auto picks a GPU if there is one.",
        autocompletion=complete_device,
    ),
]
AllowOutside = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Read photos that DATA names or links to outside its folder; not for a stranger's DATA.",
    ),
]
TensorBoard = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        callback=check_board,
        help="Write event files for TensorBoard too, into the subfolder tensorboard; needs the package of this name.",
    ),
]
Decoding = Annotated[dict[str, Any], Changes(DecodingOptions)]  # those that were given, by name
BatchSize = Annotated[int, typer.Option(min=1, metavar="N", help="Run N images through the model at once.")]
Format = Annotated[str | None, one_of(FORMATS, "Output format.  [default: by FILE's ending; text on stdout]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True)
class ModelOptions:
    """Hold the options for the checkpoint, and what it runs on."""

    model: Model = None
    device: Device = "auto"
    precision: Annotated[
        str,
        one_of(
            PRECISIONS,
            "Number format to compute in; auto is fp32 with ONNX Runtime, and with PyTorch bf16 where the processor or "
            "GPU has instructions for it, otherwise fp32.",
        ),
    ] = "auto"
    engine: Annotated[
        str,
        one_of(ENGINES, "Library that runs the network; auto is ONNX Runtime on a CPU in fp32, otherwise PyTorch."),
    ] = "auto"


@dataclass(frozen=True)
class Choosing:
    """Hold the options for choosing images in folders."""

    recursive: Annotated[bool, typer.Option(help="Look into subfolders.")] = True
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="In folders, take only files that match; a glob with a slash is matched against the path.  "
            "[repeatable]",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="In folders, leave out files and subfolders that match.  [repeatable]"),
    ] = None
    max_pixels: Annotated[int, typer.Option(min=1, metavar="N", help="Refuse images of more than N pixels.")] = (
        100_000_000
    )

    @property
    def selection(self) -> Selection:
        """Return which files in folders to take."""
        from capcli.images.find import Selection

        return Selection(self.recursive, tuple(self.include or ()), tuple(self.exclude or ()))


@dataclass(frozen=True)
class Sources(Choosing):
    """Hold the options for choosing images, wherever they are named."""

    files_from: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read image names from FILE (- for stdin), one per line.")
    ] = None
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Names in --files-from end in NUL, as find -print0 writes them.")
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Take only the I-th of N parts (1/N to N/N). An image's path and N decide its part: a new file "
            "moves no other, but N must stay. {shard} in the name of an output becomes, for example, 03-of-12.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class Placing:
    """Hold the options for captions beside the images and inside them."""

    sidecar: Annotated[bool, typer.Option("--sidecar", help="Also write photo.txt beside photo.jpg.")] = False
    sidecar_ext: Annotated[
        str | None,
        typer.Option(
            metavar="EXT",
            help="With --sidecar: what their names end in, such as caption.  [default: txt]",
            callback=check_ending,
            show_default=False,
        ),
    ] = None
    output_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Put sidecars into DIR instead, in the same tree as the images."),
    ] = None
    write_metadata: Annotated[
        bool, typer.Option("--write-metadata", help="Also write captions into the images (JPEG, PNG, WebP, TIFF).")
    ] = False
    # Two flags, since an option whose value may be left out would take the path after it for its value.
    xmp: Annotated[
        bool | None,
        typer.Option(
            "--xmp/--xmp-adobe",
            help="Also write an XMP sidecar, photo.jpg.xmp as digiKam, darktable and immich name it, or photo.xmp as "
            "Lightroom does; what else is in it stays.",
            show_default=False,
        ),
    ] = None
    fields: Annotated[
        str,
        typer.Option(
            metavar=",".join(FIELDS),
            help="With --write-metadata and --xmp: what to write, one of these or several. Keywords are added to those "
            "that are there.",
            callback=check_fields,
        ),
    ] = FIELDS[0]
    keywords: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Take up to N keywords from the best captions, for JSON, tables, --html, {keywords} in "
            "--template and --fields keywords.  [default: 5 for the last two]",
            show_default=False,
        ),
    ] = None
    min_keyword_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="P",
            callback=finite,
            help="Leave out keywords whose probability, averaged over the captions, is below P.  [default: 0.1]",
            show_default=False,
        ),
    ] = None
    touch: Annotated[
        bool,
        typer.Option(
            "--touch",
            help="With --write-metadata: give images a new modification time instead of keeping theirs.",
        ),
    ] = False
    existing: Annotated[
        str | None,
        one_of(
            EXISTING,
            "What to do if a sidecar or the metadata already holds a caption; overwrite also replaces an existing "
            "FILE, page or overlays.  [default: skip]",
        ),
    ] = None
    template: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Wording of text, sidecars, metadata and imagefolder; {keywords}, {name}, {folder}, {date}, {path} "
            "and {score} work too, and with --existing overwrite {existing}.",
        ),
    ] = "{caption}"
    separator: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="What joins captions with append and prepend, and in sidecars and imagefolder those of --num; \\n is "
            "a line end.  [default: a comma or, after a sentence, a space; for --num a line end]",
            callback=lambda text: text and text.replace("\\n", "\n"),
            show_default=False,
        ),
    ] = None

    @property
    def into_images(self) -> bool:
        """Return whether captions go beside the images or into them."""
        return self.sidecar or self.write_metadata or self.xmp is not None


@dataclass(frozen=True)
class Writing(Placing):
    """Hold the options for where captions go, and in what form."""

    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to FILE instead of stdout. If captions go to sidecars, metadata or a page, a terminal gets "
            "none unless FILE is -.",
        ),
    ] = None
    format: Format = None
    resume: Annotated[bool, typer.Option("--resume", help="Continue the output where an earlier run stopped.")] = False
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="Write NEW in place of the word or words OLD; nothing behind = leaves them out.  [repeatable]",
        ),
    ] = None
    cache: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep captions in FILE, an SQLite database, by what is in the images, and take them from there: those "
            "that are renamed, moved or there twice are not captioned again.",
            show_default=False,
        ),
    ] = None
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="S", callback=finite, help="Leave a caption empty if its score is below S.", show_default=False
        ),
    ] = None
    keep_unsure: Annotated[
        bool,
        typer.Option(
            "--keep-unsure",
            help="Write unsure captions where nothing marks them, too: into text, sidecars, metadata and imagefolder.",
        ),
    ] = False
    summary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a JSON summary: counts, and what failed or was skipped, and why; replaces an earlier one.",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class Views:
    """Hold the options for where attention is shown, and how."""

    attention: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For each image, write a folder into DIR: a picture per word, a contact sheet, and the weights as "
            "JSON.",
            show_default=False,
        ),
    ] = None
    attention_size: Annotated[
        int, typer.Option(min=16, metavar="PIXELS", help="Longest side of each word's picture.")
    ] = 640
    attention_style: Annotated[str, one_of(STYLES, "Colour the places where the model looks, or darken the rest.")] = (
        "heat"
    )
    attention_scale: Annotated[
        str,
        one_of(
            SCALES,
            "Scale each word's heat to its own maximum, or to the caption's, weighted by the gates.",
        ),
    ] = "word"
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="Interpolate between the cells of the grid, or show them raw.")
    ] = True
    gif: Annotated[bool, typer.Option("--gif", help="With --attention: also write an animation.")] = False
    show: Annotated[bool, typer.Option("--show", help="Draw the attention in the terminal.")] = False
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write one page with all photos and captions; pointing at a word shows where the model looked.",
            show_default=False,
            callback=check_page,
        ),
    ] = None


@dataclass(frozen=True)
class ClusterOptions:
    """Hold the options for captioning on the machines of a Ray cluster."""

    ray: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT|local",
            help="Caption on the machines of this Ray cluster, or on this machine's cores as if it were one. --output "
            "is a FOLDER/ that all of them share; PATHS may be WebDataset shards (.tar) as well.",
            show_default=False,
        ),
    ] = None
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --ray: PATHS are Parquet files, and this column of theirs holds paths, URLs (s3://, gs://) or "
            "encoded images. Other columns are kept.",
            show_default=False,
        ),
    ] = None
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --ray and --resume: try failed images again.")
    ] = False
    actors: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --ray: caption in N processes, each with one CPU.  [default: one for each free CPU or GPU]",
            show_default=False,
        ),
    ] = None
    gpus_per_actor: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="G",
            callback=finite,
            help="With --ray: give each process G GPUs; 0.5 lets two share one.",
        ),
    ] = 0.0
    block_rows: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="With --ray: hand out N images at a time; a process that is lost costs at most so many.",
        ),
    ] = 1000
    allow_https: Annotated[
        bool, typer.Option("--allow-https", help="With --ray: fetch https:// URLs, wherever they lead.")
    ] = False
