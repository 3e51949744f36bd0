"""Options shared by commands, each declared once, in groups that a command takes whole."""

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

from capcli.cli.help import SHORT, ShortHelp
from capcli.cli.messages import fail
from capcli.decoding.options import DecodingOptions
from capcli.engines.choose import ENGINES
from capcli.installing import install_line
from capcli.model.config import TunedDecoding
from capcli.outputs.existing import EXISTING, FIELDS
from capcli.outputs.formats import FORMATS, format_by_ending
from capcli.outputs.wording import Wording
from capcli.settings import Setting, range_of, settings

if TYPE_CHECKING:
    from capcli.images.find import Selection

BATCH_SIZE = 32  # images through the model at once; `capcli caption` can change it
SET = "Change the checkpoint's way to decode, as in the HTTP API and Python"
SEED = 1  # for `capcli teach` and `agree`
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Changes:
    """Mark a parameter that takes a dataclass's settings as a dict of those given.

    Settings that name a panel of help are options, the others go by --set.

    kind: the dataclass.
    more: help of --set.
    default: shown for settings in TunedDecoding, which are the checkpoint's.
    panel: of --set in help.
    alone: whether --set takes all of them.
    """

    kind: type
    more: str
    default: str = "the checkpoint's"
    panel: str = "How to decode"
    alone: bool = False

    def as_options(self) -> dict[str, Setting]:
        """Return the settings that are options, by name."""
        return {name: declared for name, declared in settings(self.kind).items() if declared.panel and not self.alone}

    def by_set(self) -> list[tuple[str, str]]:
        """Return the settings that --set alone takes, as NAME=VALUE, with their help."""
        hints, options = get_type_hints(self.kind), self.as_options()
        return [
            (f"{name}={shown_value(declared, hints[name])}", with_default(self.kind, name, self.default))
            for name, declared in settings(self.kind).items()
            if name not in options
        ]

    def options(self) -> Iterator[inspect.Parameter]:
        """Yield an option for each setting; None where not given."""
        for name in self.as_options():
            yield setting_option(self.kind, name, self.default)
        text = f"{self.more}.  [repeatable]"
        option = typer.Option("--set", metavar="NAME=VALUE", help=text, rich_help_panel=self.panel)
        yield option_of("set", None, Annotated[list[str] | None, option])

    def given(self, values: dict[str, Any]) -> dict[str, Any]:
        """Take the settings out of a command's values, and return those given; exit if one is out of range."""
        options = self.as_options()
        found = read_settings(self.kind, values.pop("set") or [], options)
        return found | {n: check_given(self.kind, n, value) for n in options if (value := values.pop(n)) is not None}


def setting_option(kind: type, name: str, default: str = "") -> inspect.Parameter:
    """Return a setting's option; None where not given. default: see `Changes`."""
    declared, hint = settings(kind)[name], get_type_hints(kind)[name]
    text, plain = with_default(kind, name, default), list[str] if declared.several else hint
    if declared.choices:
        shown = None if declared.metavar == Setting.metavar else declared.metavar
        option = one_of(declared.choices, text, shown, declared.panel, declared.open_end)
    else:
        flags = declared.flags or (f"--{name.replace('_', '-')}",)
        metavar = None if plain in (bool, bool | None) else declared.metavar
        panel = declared.panel
        option = typer.Option(*flags, help=text, show_default=False, metavar=metavar, rich_help_panel=panel)
    return option_of(name, None, Annotated[plain | None, option])


def with_default(kind: type, name: str, default: str) -> str:
    """Return a setting's help with its default. default: of settings in TunedDecoding."""
    declared = settings(kind)[name]
    plain = next(field.default for field in dataclasses.fields(kind) if field.name == name)
    told = declared.told or (default if name in settings(TunedDecoding) else plain)
    if declared.several:
        return f"{declared.help}  [repeatable]"
    return declared.help if told is None or told is False or told == "" else f"{declared.help}  [default: {told}]"


def shown_value(declared: Setting, hint: Any) -> str:
    """Return what help shows in place of a setting's value."""
    return "true|false" if hint in (bool, bool | None) else "|".join(declared.choices) or declared.metavar


def check_given(kind: type, name: str, value: Any) -> Any:
    """Return an option's value for a setting, or exit if it is out of range."""
    declared = settings(kind)[name]
    if isinstance(value, int | float) and not (declared.low <= value <= declared.high and math.isfinite(value)):
        fail(f"--{name.replace('_', '-')} {value}: not {range_of(declared)}")
    return tuple(value) if isinstance(value, list) else value


def read_settings(kind: type, pairs: Iterable[str], options: Collection[str] = ()) -> dict[str, Any]:
    """Return a dataclass's settings from NAME=VALUE pairs with TOML values, or exit.

    options: settings that messages leave out, having options of their own.
    """
    import tomllib

    found: dict[str, Any] = {}
    for pair in pairs:
        given, equals, text = pair.partition("=")
        name, declared = given.replace("-", "_"), settings(kind)
        if not equals or name not in declared:
            fail(f"--set {pair}: not NAME=VALUE with one of {', '.join(n for n in declared if n not in options)}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text  # a path or a word needs no quotation marks
        if declared[name].several and isinstance(value, str):
            value = [*found.get(name, ()), value]
        found[name] = tuple(value) if isinstance(value, list) else value
    return found


@dataclass(frozen=True, init=False)
class Only:
    """Mark a parameter that takes some of a group's options; the others keep their defaults."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command for Typer with its groups spread into single options.

    function: each field of a dataclass parameter is an option, but for settings without a panel, or those that `Only`
        names; so are the settings marked by `Changes`.
    """
    hints = get_type_hints(function, include_extras=True)
    marks = {name: [m for m in get_args(kind)[1:] if isinstance(m, Changes | Only)] for name, kind in hints.items()}
    groups: dict[str, tuple[Any, list[str]]] = {}
    changes: dict[str, Changes] = {}
    flat: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        name, kind = parameter.name, hints[parameter.name]
        group, mark = get_args(kind)[0] if marks[name] else kind, next(iter(marks[name]), None)
        if isinstance(mark, Changes):
            changes[name] = mark
            flat += mark.options()
        elif isinstance(group, type) and dataclasses.is_dataclass(group):
            annotations = get_type_hints(group, include_extras=True)
            defaults = {field.name: field.default for field in dataclasses.fields(group)}
            declared = {n: one for n, one in settings(group).items() if one.panel}
            names = [n for n in annotations if n not in settings(group)] + list(declared)  # in the order of help
            groups[name] = group, [n for n in names if n in (mark.names if mark else names)]
            flat += [
                setting_option(group, n) if n in declared else option_of(n, defaults[n], annotations[n])
                for n in groups[name][1]
            ]
        else:
            flat.append(option_of(name, parameter.default, kind))

    if function.__name__ in SHORT:
        flat.append(option_of("short_help", False, ShortHelp))

    @functools.wraps(function)
    def command(**values: Any) -> None:
        values.pop("short_help", None)  # shown by now
        made: dict[str, Any] = {
            name: group(**given_options(group, {option: values.pop(option) for option in options}))
            for name, (group, options) in groups.items()
        }
        made |= {name: mark.given(values) for name, mark in changes.items()}
        function(**made, **values)

    command.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    command.by_set = [row for mark in changes.values() for row in mark.by_set()]  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return command


def given_options(group: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return a group's options without settings that were not given; exit if one is out of range."""
    declared = settings(group)
    given = {name: value for name, value in values.items() if name not in declared or value is not None}
    return {name: check_given(group, name, value) if name in declared else value for name, value in given.items()}


def option_of(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    """Return a keyword-only parameter."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def one_of(
    names: Iterable[str], help: str, metavar: str | None = None, panel: str | None = None, open_end: str = ""
) -> Any:
    """Return an option that takes one of several names, with shell completion.

    metavar: shown in help; None shows the names.
    panel: of help; None for options in no group.
    open_end: what other names may begin with; empty for none.
    """
    known = tuple(names)
    listed = ", ".join([*known, f"{open_end}NAME"] if open_end else known)

    def check(parameter: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in known and not (open_end and value.startswith(open_end)):
            fail(f"{parameter.opts[0]} {value}: not one of {listed}")
        return value

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return typer.Option(
        metavar=metavar or "|".join(known), help=help, callback=check, autocompletion=complete, rich_help_panel=panel
    )


def choose_format(asked: str | None, output: str | None) -> str:
    """Return the name of an output's format, or fail if nothing tells it.

    asked: None goes by the file's ending.
    output: None for stdout.
    """
    name = asked or format_by_ending(output)
    if name is None and (str(output).endswith(("/", os.sep)) or os.path.isdir(str(output))):
        fail(f"{output}: is a folder; name a file in it, or add --format parquet or imagefolder")
    if name is None:
        fail(f"{output}: unknown ending; choose a format with --format {'|'.join(FORMATS)}")
    return name


def finite(value: float | None) -> float | None:
    """Return a number or None, refusing NaN and infinity, which ranges let pass."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def check_board(asked: bool) -> bool:
    """Return whether to write event files, refusing that without TensorBoard."""
    if asked and find_spec("tensorboard") is None:
        fail(f"--tensorboard needs an extra package: {install_line('tensorboard')}")
    return asked


def check_page(page: Path | None) -> Path | None:
    """Return a page's path or None, refusing other kinds of files."""
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        fail(f"--html {page}: the name of a page must end in .html")
    return page


def check_fields(fields: str) -> str:
    """Return a list of fields, refusing unknown names."""
    for name in fields.split(","):
        if name not in FIELDS:
            fail(f"--fields {fields}: {name!r} is not one of {', '.join(FIELDS)}")
    return fields


def check_ending(ending: str | None) -> str | None:
    """Return sidecars' ending with its dot, or None, refusing the endings of other files."""
    if ending is None:
        return None
    from capcli.images.find import SUFFIXES

    dotted = "." + ending.removeprefix(".")
    if dotted.lower() in (".", ".xmp") or dotted.lower() in SUFFIXES or set(ending) & set("/\\"):
        reason = "--xmp writes XMP sidecars" if dotted.lower() == ".xmp" else "not an ending for text files"
        fail(f"--sidecar-ext {ending}: {reason}")
    return dotted


def complete_device(incomplete: str) -> list[str]:
    """Return devices to complete; others, such as `cuda:1`, can be typed out."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


# An option in each panel of help; its text gives any default that is no plain value.
Choice = functools.partial(typer.Option, rich_help_panel="What to caption", show_default=False)
Place = functools.partial(typer.Option, rich_help_panel="What to write", show_default=False)
View = functools.partial(typer.Option, rich_help_panel="Where it looked", show_default=False)
Running = functools.partial(typer.Option, rich_help_panel="Running")
Machine = functools.partial(typer.Option, rich_help_panel="The machines", show_default=False)

Model = Annotated[
    str | None,
    Running(
        metavar="FOLDER|USER/NAME[@REVISION]",
        help="Checkpoint to use: a folder, or a repository on the Hugging Face Hub.  [default: bundled, the one that "
        "came with capcli]",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    Running(
        metavar="auto|cpu|cuda|mps",
        help="Device to run on; auto picks a GPU if there is one.",
        autocompletion=complete_device,
    ),
]
AllowOutside = Annotated[
    bool,
    Running(
        "--allow-outside",
        help="Read photos that DATA names or links to outside its folder; not for a stranger's DATA.",
    ),
]
TensorBoard = Annotated[
    bool,
    Running(
        "--tensorboard",
        callback=check_board,
        help="Write event files for TensorBoard too, into the subfolder tensorboard; needs the package of this name.",
    ),
]
# Given settings by name.
Decoding = Annotated[dict[str, Any], Changes(DecodingOptions, SET)]
DecodingSet = Annotated[dict[str, Any], Changes(DecodingOptions, SET, alone=True)]
Num = Annotated[
    int,
    typer.Option(
        min=1,
        max=1000,
        metavar="N",
        help="Give the N best captions, with their scores.",
        rich_help_panel="How to decode",
    ),
]
Format = Annotated[
    str | None, one_of(FORMATS, "Output format.  [default: by FILE's ending; text on stdout]", panel="What to write")
]
Quiet = Annotated[bool, Running("--quiet", "-q", help="Hide the progress bar and the closing summary.")]


@dataclass(frozen=True)
class ModelOptions:
    """Hold options for the checkpoint and its device."""

    model: Model = None
    device: Device = "auto"
    precision: Annotated[
        str,
        one_of(
            PRECISIONS,
            "Number format to compute in; auto is fp32 with ONNX Runtime, and with PyTorch bf16 where the processor or "
            "GPU has instructions for it, otherwise fp32.",
            panel="Running",
        ),
    ] = "auto"
    engine: Annotated[
        str,
        one_of(
            ENGINES,
            "Library that runs the network; auto is ONNX Runtime on a CPU in fp32, otherwise PyTorch.",
            panel="Running",
        ),
    ] = "auto"


@dataclass(frozen=True)
class Sources:
    """Hold options for choosing images."""

    recursive: Annotated[bool, Choice(help="Look into subfolders.", show_default=True)] = True
    include: Annotated[
        list[str] | None,
        Choice(
            metavar="GLOB",
            help="In folders, take only files that match; a glob with a slash is matched against the path.  "
            "[repeatable]",
        ),
    ] = None
    exclude: Annotated[
        list[str] | None,
        Choice(metavar="GLOB", help="In folders, leave out files and subfolders that match.  [repeatable]"),
    ] = None
    max_pixels: Annotated[
        int, Choice(min=1, metavar="N", help="Refuse images of more than N pixels.", show_default=True)
    ] = 100_000_000
    files_from: Annotated[
        str | None,
        Choice(metavar="FILE", help="Read image names from FILE (- for stdin), one per line, or each ending in NUL."),
    ] = None
    shard: Annotated[
        str | None,
        Choice(
            metavar="I/N",
            help="Take only the I-th of N parts (1/N to N/N). An image's path and N decide its part: new files move "
            "no others, but N must stay the same. {shard} in the name of an output becomes, for example, 03-of-12.",
        ),
    ] = None

    @property
    def selection(self) -> Selection:
        from capcli.images.find import Selection

        return Selection(self.recursive, tuple(self.include or ()), tuple(self.exclude or ()))


@dataclass(frozen=True)
class Writing(Wording):
    """Hold options for where captions go, and in which form."""

    output: Annotated[
        str | None,
        Place(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to FILE instead of stdout. If captions go to sidecars, metadata or a page, a terminal gets "
            "none unless FILE is -.",
        ),
    ] = None
    format: Format = None
    resume: Annotated[bool, Place("--resume", help="Continue the output where an earlier run stopped.")] = False
    sidecar: Annotated[bool, Place("--sidecar", help="Also write photo.txt beside photo.jpg.")] = False
    sidecar_ext: Annotated[
        str | None,
        Place(
            metavar="EXT",
            help="With --sidecar: ending of their names, such as caption.  [default: txt]",
            callback=check_ending,
        ),
    ] = None
    output_dir: Annotated[
        str | None, Place(metavar="DIR", help="Put sidecars into DIR instead, in the same tree as the images.")
    ] = None
    write_metadata: Annotated[
        bool, Place("--write-metadata", help="Also write captions into the images (JPEG, PNG, WebP, TIFF).")
    ] = False
    # Two flags: an option with an optional value would swallow the path after it.
    xmp: Annotated[
        bool | None,
        Place(
            "--xmp/--xmp-adobe",
            help="Also write an XMP sidecar, photo.jpg.xmp as digiKam, darktable and immich name it, or photo.xmp as "
            "Lightroom does; its other content stays.",
        ),
    ] = None
    fields: Annotated[
        str,
        Place(
            metavar=",".join(FIELDS),
            help="With --write-metadata and --xmp: fields to write, one or several. Keywords are added to "
            "existing ones.",
            callback=check_fields,
            show_default=True,
        ),
    ] = FIELDS[0]
    existing: Annotated[
        str | None,
        one_of(
            EXISTING,
            "What to do with existing captions: those in a sidecar or the metadata; own replaces what capcli wrote and "
            "nobody has changed since; overwrite also replaces an existing FILE, page or overlays.  [default: skip]",
            panel="What to write",
        ),
    ] = None
    template: Annotated[
        str,
        Place(
            metavar="TEXT",
            help="Wording of text, sidecars, metadata and imagefolder; {keywords}, {name}, {folder}, {date}, {path} "
            "and {score} work too, and with --existing overwrite {existing}.",
            show_default=True,
        ),
    ] = "{caption}"
    separator: Annotated[
        str | None,
        Place(
            metavar="TEXT",
            help="Text between captions: with append and prepend, and for --num in sidecars and imagefolder; \\n is a "
            "line end.  [default: a comma or, after a sentence, a space; for --num a line end]",
            callback=lambda text: text and text.replace("\\n", "\n"),
        ),
    ] = None
    keep_unsure: Annotated[
        bool,
        Place(
            "--keep-unsure",
            help="Write unsure captions also where they cannot be marked: in text, sidecars, metadata and imagefolder.",
        ),
    ] = False
    cache: Annotated[
        str | None,
        Place(
            metavar="FILE",
            help="Remember captions in FILE, an SQLite database, by the content of images: renamed, moved or duplicate "
            "ones are not captioned again. It also remembers which texts in rows and sidecars are capcli's.",
        ),
    ] = None
    summary: Annotated[
        Path | None,
        Place(
            metavar="FILE",
            help="Write a JSON summary: counts, and what failed or was skipped, and why; replaces an earlier one.",
        ),
    ] = None

    @property
    def into_images(self) -> bool:
        """Return whether captions go beside images or into them."""
        return self.sidecar or self.write_metadata or self.xmp is not None


@dataclass(frozen=True)
class Views:
    """Hold options for showing attention."""

    attention: Annotated[
        Path | None,
        View(
            metavar="DIR",
            help="Draw where the model looked at each word: for each image, a folder in DIR with a picture per word, a "
            "contact sheet, and the weights as JSON.",
        ),
    ] = None
    show: Annotated[bool, View("--show", help="Draw the attention in the terminal.")] = False
    html: Annotated[
        Path | None,
        View(
            metavar="FILE",
            help="Write one page with all photos and captions; pointing at a word shows where the model looked.",
            callback=check_page,
        ),
    ] = None


@dataclass(frozen=True)
class ClusterOptions:
    """Hold the options of a Ray cluster."""

    column: Annotated[
        str | None,
        Choice(
            metavar="NAME",
            help="PATHS are Parquet files, and this column of theirs holds paths, URLs (s3://, gs://) or encoded "
            "images. Other columns are kept.",
        ),
    ] = None
    allow_https: Annotated[bool, Choice("--allow-https", help="Fetch https:// URLs, wherever they lead.")] = False
    retry_failed: Annotated[bool, Place("--retry-failed", help="Try failed images again, with --resume.")] = False
    address: Annotated[
        str,
        Machine(
            metavar="HOST:PORT",
            help="Caption on the machines of this Ray cluster; all of them share FOLDER.  [default: this machine's "
            "cores, as if they were one]",
        ),
    ] = "local"
    actors: Annotated[
        int | None,
        Machine(
            min=1,
            metavar="N",
            help="Caption in N processes, each with one CPU.  [default: one for each free CPU or GPU]",
        ),
    ] = None
    gpus_per_actor: Annotated[
        float,
        Machine(min=0, metavar="G", callback=finite, help="Give each process G GPUs; 0.5 lets two share one."),
    ] = 0.0
