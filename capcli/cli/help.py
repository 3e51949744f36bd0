"""A command's two helps: -h, one screen of what most people need, and --help, every option in panels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

OTHERS = "Options"  # the panel of options that name none
WIDEST = 24  # columns for the names of options in the short help
NO_SURPRISE = re.compile(r"; x>=[01](?=\])|\s*\[x>=[01]\]$")  # ranges that go without saying
ABBREVIATED = "(?<! al)(?<!e\\.g)"  # before a stop that ends no clause


@dataclass(frozen=True)
class Short:
    """Hold a command's -h.

    options: names, a dozen at most, in order.
    examples: three command lines.
    """

    options: tuple[str, ...]
    examples: tuple[str, ...]


SHORT = {
    "caption": Short(
        (
            *("output", "resume", "existing", "sidecar", "write_metadata", "html", "attention"),
            *("num", "ban", "exclude", "model", "dry_run"),
        ),
        (
            "capcli caption photo.jpg",
            "capcli caption photos/ --output captions.csv --resume",
            "capcli caption photos/ --sidecar --dry-run",
        ),
    ),
    "write": Short(
        (
            "write_metadata",
            "xmp",
            "sidecar",
            "existing",
            "fields",
            "output",
            "html",
            "column",
            "cache",
            "remove",
            "dry_run",
        ),
        (
            "capcli write captions.csv --write-metadata --dry-run",
            "capcli write part-*.jsonl --output all.csv",
            "capcli write --remove photos/",
        ),
    ),
    "cluster": Short(
        ("output", "address", "column", "resume", "retry_failed", "actors", "gpus_per_actor", "allow_https", "num"),
        (
            "capcli cluster photos/ --output out/",
            "capcli cluster list.parquet --column url --output out/ --resume",
            "capcli cluster 'shards/*.tar' --output out/ --address 10.0.0.5:6379",
        ),
    ),
    "train": Short(
        (
            *("output", "resume", "init", "epochs", "fine_tune", "self_critical", "decoder", "refine"),
            *("learning_rate", "image_size", "device", "seed"),
        ),
        (
            "capcli train captions.json --output runs/mine",
            "capcli train captions.json --output runs/mine --resume",
            "capcli train captions.json --output runs/tuned --init bundled --fine-tune",
        ),
    ),
    "serve": Short(
        (
            *("open_page", "sidecar", "write_metadata", "xmp", "existing", "corrections", "host", "port", "token"),
            *("allow_host", "max_pixels", "model"),
        ),
        (
            "capcli serve --open",
            "capcli serve photos/ --open --sidecar",
            "CAPCLI_TOKEN=choose-a-long-one capcli serve --port 8765",
        ),
    ),
    "evaluate": Short(
        ("model", "split", "against", "captions", "num", "set", "as_json", "pointing", "allow_outside"),
        (
            "capcli evaluate captions.json",
            "capcli evaluate captions.json --model runs/mine --split test",
            "capcli evaluate captions.json --model runs/mine --against bundled",
        ),
    ),
    "explain": Short(
        ("text_file", "html", "attention", "existing", "as_json", "model"),
        (
            'capcli explain photo.jpg "a cat on a sofa"',
            "capcli explain photo.jpg --text-file captions.txt",
            'capcli explain photo.jpg "a cat on a sofa" --html page.html',
        ),
    ),
    "alt": Short(
        ("check", "dry_run", "max_chars", "min_confidence", "root", "exclude", "model"),
        (
            "capcli alt site/ --dry-run",
            "capcli alt site/",
            "capcli alt site/ README.md --check",
        ),
    ),
}


class Command(TyperCommand):
    """List options in panels without Rich, whose import would take longer than the rest of help."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage line's words, with PHOTO for Typer's {PHOTO}."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then options by panel; those without one come last."""
        panels: dict[str, list[Any]] = {"Arguments": []}
        for parameter in sorted(self.get_params(ctx), key=lambda each: panel_of(each) == OTHERS):
            panels.setdefault(panel_of(parameter), []).append(parameter)
        for title, parameters in panels.items():
            records = [record for each in parameters if (record := each.get_help_record(ctx)) is not None]
            records = [(names, NO_SURPRISE.sub("", text)) for names, text in records]
            if title == "Arguments":  # without the Python types that Typer adds
                records = [(name.partition(" ")[0], text) for name, text in records]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        if by_set := getattr(self.callback, "by_set", None):
            with formatter.section("Settings, for --set"):
                formatter.write_dl(by_set)


def panel_of(parameter: Any) -> str:
    """Return the title of a parameter's panel."""
    if parameter.param_type_name == "argument":
        return "Arguments"
    return parameter.rich_help_panel or OTHERS


def show_short(ctx: typer.Context, asked: bool) -> None:
    """Print a command's short help and exit, if asked."""
    if asked:
        print("\n".join(short_help(ctx)))
        raise typer.Exit


# Added to commands that have a short help.
ShortHelp = Annotated[
    bool,
    typer.Option(
        "-h",
        is_eager=True,
        show_default=False,
        callback=show_short,
        help="Show the options that most people need, and examples.",
    ),
]


def short_help(ctx: Any) -> list[str]:
    """Return a command's short help as lines of at most 80 columns."""
    command, short = ctx.command, SHORT[ctx.command.name]
    parameters = {parameter.name: parameter for parameter in command.params}
    rows = [brief(parameters[name], ctx) for name in short.options if name in parameters]
    width = max(len(names) for names, _ in rows)
    lines = [command.get_usage(ctx), "", command.help.partition("\n")[0], ""]
    lines += [f"  {names:{width}}  {fitting(text, 80 - width - 4)}" for names, text in rows]
    return [*lines, "", *(f"  {example}" for example in short.examples), "", f"Every option: {ctx.command_path} --help"]


def brief(parameter: Any, ctx: Any) -> tuple[str, str]:
    """Return an option's names, without long choices, and the first clause of its help."""
    names, text = parameter.get_help_record(ctx)
    if len(names) > WIDEST:
        names = ", ".join(sorted(parameter.opts, key=len))
        names += "" if parameter.is_flag else " …"
    return names, re.split(ABBREVIATED + "[.;:](?: |$)", text)[0]


def fitting(text: str, width: int) -> str:
    """Cut a clause that is too wide at its last comma or bracket."""
    return text if len(text) <= width else re.split(", (?=[^,]*$)| \\(", text[: width + 1])[0]
