"""Every option is in a panel of the help, once."""

from __future__ import annotations

import re

import pytest
import typer.main
from typer.testing import CliRunner

from capcli import __version__
from capcli.cli.app import COMMANDS as SHORT_HELP
from capcli.cli.app import app
from capcli.cli.help import PANELS, TRAINING_PANELS
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


def test_a_line_is_enough_to_introduce_a_command() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output
    listed = shown.partition("Commands:\n")[2].partition("\n\n")[0]
    assert len(listed.splitlines()) == len(COMMANDS)
    assert "..." not in listed


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


def test_panels_name_options_that_exist() -> None:
    captioning = {parameter.name for parameter in COMMANDS["caption"].params}
    training = {parameter.name for parameter in COMMANDS["train"].params}
    assert {name for names in PANELS.values() for name in names} <= captioning
    assert {name for names in TRAINING_PANELS.values() for name in names} <= training


@pytest.mark.parametrize("name", ["caption", "train"])
def test_every_option_has_a_panel(name: str) -> None:
    panels = TRAINING_PANELS if name == "train" else PANELS
    listed = [option for options in panels.values() for option in options]
    assert len(listed) == len(set(listed))
    options = {parameter.name for parameter in COMMANDS[name].params if parameter.param_type_name == "option"}
    assert options - set(listed) == set()


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
    kept = {"caption": ["x>=16]"]}
    assert all(span in shown for span in kept.get(name, []))
