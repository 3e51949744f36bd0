"""The command line: the list of its commands, and how a run of the program begins and ends.

Everything heavy is imported where a command needs it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from capcli import __version__
from capcli.cli.bench import bench
from capcli.cli.caption import caption
from capcli.cli.evaluate import evaluate
from capcli.cli.explain import explain
from capcli.cli.help import Command
from capcli.cli.info import info
from capcli.cli.messages import say
from capcli.cli.models import models
from capcli.cli.native import let_crashes_speak
from capcli.cli.push import push
from capcli.cli.signals import Interrupt, Stop
from capcli.cli.streams import flush_streams, open_streams, say_lost
from capcli.cli.train import train

app = typer.Typer(
    name="capcli",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain messages, and no time spent on importing rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Caption photos, see where the model looked, and train models of your own."""


for command in (caption, explain, bench, info, models, push, train, evaluate):
    app.command(cls=Command)(command)
