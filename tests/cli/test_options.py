"""Options that several commands share."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest
from conftest import PHOTOS
from typer.testing import CliRunner

from capcli.cli.app import app

COFFEE = str(PHOTOS / "coffee.jpg")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_no_option_takes_what_is_no_finite_number(number: str, tmp_path: Path) -> None:
    arguments = {"caption": [COFFEE], "explain": [COFFEE, "a cup"], "train": ["absent", "-o", str(tmp_path / "run")]}
    arguments["evaluate"] = ["absent"]
    asked = 0
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.callback.__name__
        for parameter, kind in get_type_hints(command.callback).items():
            if kind in (float, float | None):
                option = "--" + parameter.replace("_", "-")
                done = CliRunner().invoke(app, [name, *arguments[name], f"{option}={number}"])
                assert done.exit_code == 2
                assert f"Invalid value for '{option}'" in done.stderr
                asked += 1
    assert asked > 15


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--device", "meta", "device 'meta' cannot be used: not one of auto, cuda, mps, cpu"),
        ("--device", "tpu", "device 'tpu' cannot be used: not one of auto, cuda, mps, cpu"),
        ("--device", "cpu:x", "device 'cpu:x' cannot be used: Invalid device string"),
        ("--seed", "18446744073709551616", "seed is 18446744073709551616, not an integer of 64 bits"),
    ],
)
def test_what_cannot_be_followed_is_one_line(tiny_checkpoint: Path, option: str, value: str, said: str) -> None:
    done = CliRunner().invoke(app, ["caption", COFFEE, "--model", str(tiny_checkpoint), option, value])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"capcli: {said}")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 120
    assert done.stdout == ""


def test_json_of_a_name_that_is_not_utf_8_is_utf_8(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    try:
        shutil.copy(COFFEE, photo)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    rows = [{"file_path": str(photo), "captions": ["a cat"], "split": "dev"}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    commands = [["explain", str(photo), "a cat"]]
    commands += [["evaluate", str(tmp_path / "data.json")]] if have_scores() else []
    for command in commands:
        done = CliRunner().invoke(app, [*command, "--json", "--model", str(tiny_checkpoint), "--device", "cpu"])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout_bytes.decode("utf-8"))
        assert found.get("captions", [found])[0]["path"] == str(photo)


def have_scores() -> bool:
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        return False
    return True
