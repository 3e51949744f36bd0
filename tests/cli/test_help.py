"""The two helps of a command: every option once, in panels, and a screen of what most people need."""

from __future__ import annotations

import re
import shlex

import pytest
import typer.main
from typer.testing import CliRunner

from capcli import __version__
from capcli.cli.app import COMMANDS as SHORT_HELP
from capcli.cli.app import GROUPS, app
from capcli.cli.help import SHORT
from capcli.model.config import TunedDecoding
from capcli.results import Candidate
from capcli.serve.parameters import DECODING

ROOT = typer.main.get_command(app)
COMMANDS = {name: ROOT.get_command(None, name) for name in SHORT_HELP}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_each_option_once(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    left = [re.split(r"\s{2,}", line.strip())[0] for line in shown.splitlines() if re.match("  -", line)]
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            longest = max(parameter.opts, key=len)
            assert sum(longest in re.split(r"[ ,]+", names) for names in left) == 1, longest


def test_a_line_in_a_group_is_enough_to_introduce_a_command() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    for title, commands in GROUPS.items():
        listed = shown.partition(f"{title}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in listed.splitlines()] == list(commands)
        assert "..." not in listed


def short(name: str) -> list[str]:
    return CliRunner().invoke(app, [name, "-h"], env={"COLUMNS": "80"}, prog_name="capcli").output.splitlines()


@pytest.mark.parametrize("name", SHORT)
def test_the_short_help_is_one_screen(name: str) -> None:
    shown = short(name)
    assert len(shown) <= 24
    assert max(map(len, shown)) <= 80
    assert shown[-1] == f"Every option: capcli {name} --help"
    examples = [line.strip() for line in shown if re.match(r"  (\w+=\S+ )?capcli ", line)]
    assert len(examples) == 3
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    for example in examples:
        words = shlex.split(example)
        assert name in words
        assert {word for word in words if word.startswith("-")} <= known
    assert set(SHORT[name].options) <= {parameter.name for parameter in COMMANDS[name].params}
    assert len(SHORT[name].options) <= 12


def test_commands_with_many_options_have_a_short_help() -> None:
    assert SHORT.keys() >= {"caption", "train", "serve", "evaluate", "explain", "alt"}
    for name, command in COMMANDS.items():
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        assert len(options) <= 6 or name in SHORT


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_no_types_of_python(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"]).output
    fields = "caption|keywords|name|folder|date|existing|path|score|shard"  # of --template, and what --shard fills in
    shown = re.sub(rf"\{{({fields})\}}", "", shown)
    assert not re.search(r"<(str|int|float|path|list)|\{\w+\}", shown)


def test_the_score_is_explained_with_all_that_is_in_it() -> None:
    shown = CliRunner().invoke(app, ["caption", "--help"], env={"COLUMNS": "200"}).output
    assert " ".join(shown.split()).count("score = log_prob / nᵅ + W × agreement") == 2  # at the top, and of α
    said = [str(DECODING["length_penalty"]), TunedDecoding.__doc__, Candidate.__doc__]
    assert all("log_prob / nᵅ + W × agreement" in str(each) for each in said)


@pytest.mark.parametrize("name", ["caption", "cluster", "train"])
def test_every_option_of_commands_with_many_has_a_panel(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option" and parameter.name != "short_help":
            assert parameter.rich_help_panel, parameter.name


def test_the_list_of_commands_says_how_their_own_help_begins() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    for name, text in SHORT_HELP.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", shown, re.M)
        assert COMMANDS[name].help.startswith(text.rstrip(".")), name


def test_a_misspelt_command_is_told_what_it_is_like() -> None:
    assert "no such command 'capton'. Did you mean 'caption'?" in CliRunner().invoke(app, ["capton"]).stderr


def test_help_ends_by_pointing_to_that_of_a_command() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    assert shown.rstrip().splitlines()[-1].strip() == "For help with a command: capcli COMMAND --help"


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version(option: str) -> None:
    assert CliRunner().invoke(app, [option]).output == f"capcli {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_only_ranges_that_may_surprise(name: str) -> None:
    shown = " ".join(CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output.split())
    assert not re.search(r"x>=[01]\]", shown)
    assert name != "serve" or "0<=x<=65535]" in shown
