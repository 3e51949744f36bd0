"""A command as it was given, to be given again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import typer


def command_again(context: typer.Context, **changes: Any) -> str:
    """Return the line that gives a command again with all that it was given on the command line.

    context: of the command.
    changes: other values, by the names of parameters; None leaves one out.
    """
    words = ["capcli", str(context.info_name)]
    arguments: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        value = changes[name] if name in changes else context.params.get(name) if given else None
        if parameter.param_type_name == "argument":
            arguments += () if value is None else [str(value)]
        else:
            words += options(parameter, value)
    if any(each.startswith("-") for each in arguments):
        words.append("--")
    return shlex.join([*words, *arguments])


def options(parameter: Any, value: Any) -> Iterator[str]:
    """Yield what gives an option a value. parameter: Click's. value: None for what is not given."""
    if isinstance(value, bool):
        yield from parameter.opts[:1] if value else parameter.secondary_opts[:1]
        return
    for each in value if isinstance(value, (list, tuple)) else [] if value is None else [value]:
        yield from (parameter.opts[0], str(each))
