"""The README names only what exists."""

import re
import shlex
from pathlib import Path

import click
import typer.main

from capcli.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def commands() -> list[list[str]]:
    """Every capcli command line in the README, as words."""
    lines = re.findall(r"^(?:\$ )?(?:[^`]*\| )?(capcli .*)$", README, re.M) + re.findall(
        r"`(?:[^`]*(?:&&|\|) )?(capcli [^`]*)`", README
    )
    assert len(lines) > 8
    return [shlex.split(line.split(" > ")[0], comments=True) for line in lines]


def options(command: click.Command) -> set[str]:
    """Everything that may follow a command and begins with a hyphen."""
    return {"--help"}.union(*((*parameter.opts, *parameter.secondary_opts) for parameter in command.params))


def test_commands_and_options_exist() -> None:
    root = typer.main.get_command(app)
    context = click.Context(root)
    for words in commands():
        command = root.get_command(context, words[1])
        assert command is not None, words
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
            "--help"
        }
        used = {word.split("=")[0] for word in words if word.startswith("--")}
        assert used <= known, words


def test_options_named_in_passing_exist() -> None:
    root = typer.main.get_command(app)
    known = set().union(*map(options, root.commands.values()))
    for option in re.findall(r"`(--[a-z-]+)", README):
        assert option in known, option


def test_files_exist() -> None:
    for name in re.findall(r"\]\(([^):]+)\)", README) + re.findall(r"tests/photos/\w+\.jpg", README):
        assert (ROOT / name).exists(), name


def test_the_workflow_runs_its_commands() -> None:
    for workflow in ROOT.glob(".github/workflows/*.yml"):
        for command in re.findall(r"^\s*- (python3 -m venv .*)", workflow.read_text("utf-8"), re.M):
            assert f"`{command}`" in README, command


def test_contributing_names_tests_that_exist() -> None:
    named = re.findall(r"tests/[\w/]+\.py", (ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    assert named
    for name in named:
        assert (ROOT / name).exists(), name
