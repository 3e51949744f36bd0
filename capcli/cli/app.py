"""The command line: its commands, and the program's start and end.

A command's file is imported when it is called, anything heavy only when needed.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys
import threading
from collections import ChainMap
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from capcli import __version__
from capcli.cli.help import SHORT, Command
from capcli.cli.messages import fail, say
from capcli.cli.native import report_crashes
from capcli.cli.signals import Interrupt, Stop
from capcli.cli.streams import flush_streams, open_streams, say_lost
from capcli.engines.choose import INSTALL_TORCH

# Each command is the function of this name in the file of this name.
GROUPS = {
    "Caption and write": {
        "caption": "Caption images.",
        "serve": "Serve a page to caption photos on, and an HTTP API.",
        "alt": "Write the missing alt texts of HTML and Markdown.",
        "cluster": "Caption a million images on the machines of a Ray cluster.",
        "write": "Write captions made or corrected elsewhere; merge and convert them.",
    },
    "Look and check": {
        "explain": "Check your own sentence against a photo, word by word.",
        "compare": "Compare how several checkpoints caption a photo.",
        "evaluate": "Caption a data set's photos and score the captions.",
        "bench": "Measure how fast captioning is on this machine.",
        "info": "Describe a checkpoint, or say whose the captions of a photo are.",
        "models": "List the bundled checkpoint and those downloaded from the Hub.",
    },
    "Train and share": {
        "data": "Describe a data set: photos, captions, words, splits, what is odd.",
        "teach": "Teach a checkpoint your own captions of some photos.",
        "train": "Train a captioner on photos with captions.",
        "agree": "Learn to rank captions by how well they agree with the photo.",
        "push": "Upload a checkpoint and its model card to the Hugging Face Hub.",
        "export": "Export a checkpoint as ONNX graphs, for other programs.",
    },
}
COMMANDS = ChainMap(*reversed(GROUPS.values()))
# Options that moved, and where to.
MOVED = {"--ray": "captioning on a Ray cluster is a command: capcli cluster PATHS --output FOLDER/ --address HOST:PORT"}

# Click's ClickException, which Typer exports under a different name in each version.
UsageError: Any = typer.BadParameter.__mro__[2]


class Commands(TyperGroup):
    """Hold the commands, importing only the one called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # names to suggest for a mistyped one

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Run the program and exit; wrong arguments give one line, like every error."""
        if not named.get("standalone_mode", True):
            return super().main(*arguments, **named)
        try:
            sys.exit(super().main(*arguments, **named | {"standalone_mode": False}) or 0)
        except UsageError as error:
            if moved := where_it_is(error):
                say(moved)
                sys.exit(error.exit_code)
            said = error.format_message()
            if "\n" in said:  # the help, as there was no argument
                print(said, file=sys.stderr)
            else:
                end = "" if said.endswith((".", "?")) else "."
                place = re.sub("^.*capcli", "capcli", error.ctx.command_path) if error.ctx else "capcli"
                say(f"{said[:1].lower()}{said[1:]}{end} See {place} --help")
            sys.exit(error.exit_code)
        except typer.Abort:  # there was nothing to read from a terminal
            sys.exit(1)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Read the arguments; `help` means --help, and `help COMMAND` that command's."""
        return super().parse_args(ctx, [*args[1:2], "--help"] if args[:1] == ["help"] else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command called; for an image in its place, exit with the `caption` line to use."""
        if args[0] not in COMMANDS:
            from capcli.images.find import is_image

            if os.path.exists(args[0]) or is_image(args[0]):
                fail(f"{args[0]}: not a command; to caption it: {shlex.join(['capcli', 'caption', *args])}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return a command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        names = {"help_option_names": ["--help"] if cmd_name in SHORT else ["-h", "--help"]}
        alone.command(cmd_name, cls=Command, context_settings=names)(
            getattr(importlib.import_module(f"capcli.cli.{cmd_name}"), cmd_name)
        )
        return typer.main.get_command(alone)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in groups."""
        width = max(map(len, COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", line) for name, line in commands.items()])


def where_it_is(error: Any) -> str | None:
    """Return what to give instead of an option that a command has not; None if nobody knows."""
    option = getattr(error, "option_name", "")
    name = option.lstrip("-").replace("-", "_")
    rows = getattr(error.ctx and error.ctx.command.callback, "by_set", ())
    if any(shown.partition("=")[0] == name for shown, _ in rows):
        return f"{option} is a setting: --set {name}=VALUE"
    return MOVED.get(option)


app = typer.Typer(
    name="capcli",
    cls=Commands,
    no_args_is_help=True,
    epilog="For help with a command: capcli COMMAND --help",
    rich_markup_mode=None,  # plain messages, and no time spent importing Rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line, and exit.

    Status 0: all done; 1: some images or the output failed; 2: usage error; 128 + signal's number: stopped.
    """
    open_streams()
    report_crashes()
    status: Any = 0
    try:
        with Interrupt():
            app()
    except SystemExit as end:
        status = end.code
        if isinstance(end, Stop):
            say("interrupted")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "torchvision"):
            raise
        say(f"this needs PyTorch: {INSTALL_TORCH}")
        status = 2
    except OSError as error:
        if not error.filename:
            raise
        say_lost(error.filename, error)
        status = 1
    status = status if flush_streams() else 1
    if any(thread.daemon for thread in threading.enumerate()):
        # Such a thread hangs on a disk, or a pipe without a writer. The interpreter would stop it anywhere, and abort
        # if that is in C++ or while it holds standard input.
        os._exit(status or 0)
    sys.exit(status)


def print_version(wanted: bool) -> None:
    """Print the version and exit, if `--version` was given."""
    if wanted:
        typer.echo(f"capcli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Caption photos, see where the model looked, and train models of your own."""
