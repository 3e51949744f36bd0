"""Options that several commands share."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import get_type_hints

import pytest
from fakes import PHOTOS
from typer.testing import CliRunner

from capcli.cli.app import COMMANDS, app

COFFEE = str(PHOTOS / "coffee.jpg")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_no_option_takes_what_is_no_finite_number(number: str, tmp_path: Path) -> None:
    arguments = {"caption": [COFFEE], "explain": [COFFEE, "a cup"], "train": ["absent", "-o", str(tmp_path / "run")]}
    arguments |= {
        "evaluate": ["absent"],
        "serve": [],
        "alt": ["absent"],
        "teach": ["absent", "-o", "absent"],
        "cluster": ["absent", "-o", "absent"],
    }
    asked = 0
    for name in COMMANDS:
        function = getattr(importlib.import_module(f"capcli.cli.{name}"), name)
        for parameter, kind in get_type_hints(function).items():
            if kind in (float, float | None):
                option = "--" + parameter.replace("_", "-")
                done = CliRunner().invoke(app, [name, *arguments[name], f"{option}={number}"])
                assert done.exit_code == 2
                assert re.search(f"[Ii]nvalid value for '{option}'|{option} {number}: not ", done.stderr)
                asked += 1
    assert asked >= 4
    done = CliRunner().invoke(app, ["caption", COFFEE, "--set", f"temperature={number}"])
    assert (done.exit_code, done.stderr) == (2, f"capcli: temperature is {number}, not between 0.01 and 100\n")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--device", "meta", "device 'meta' cannot be used: not one of auto, cuda, mps, cpu"),
        ("--device", "tpu", "device 'tpu' cannot be used: not one of auto, cuda, mps, cpu"),
        ("--device", "cpu:x", "device 'cpu:x' cannot be used: Invalid device string"),
        (
            "--set",
            "seed=18446744073709551616",
            "seed is 18446744073709551616, not between -9223372036854775808 and 18446744073709551615",
        ),
    ],
)
def test_what_cannot_be_followed_is_one_line(tiny_checkpoint: Path, option: str, value: str, said: str) -> None:
    done = CliRunner().invoke(app, ["caption", COFFEE, "--model", str(tiny_checkpoint), option, value])
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith(f"capcli: {said}")
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 130
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
        done = CliRunner().invoke(app, [*command, "--json", "--model", str(tiny_checkpoint)])
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout_bytes.decode("utf-8"))
        assert found.get("captions", [found])[0]["path"] == str(photo)


def have_scores() -> bool:
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        return False
    return True


def test_choices_are_those_of_what_they_choose() -> None:
    from capcli.cli import options
    from capcli.model import precision

    assert set(options.PRECISIONS) == {"auto", *precision.PRECISIONS}


@pytest.mark.parametrize(
    ("option", "value", "names"),
    [
        ("--format", "xml", "text, json, jsonl, csv, tsv, parquet, imagefolder, coco"),
        ("--existing", "keep", "skip, overwrite, append, prepend, own, fail"),
        ("--precision", "fp8", "auto, fp32, bf16, fp16"),
    ],
)
def test_a_choice_that_is_not_there_is_one_line_and_completes(option: str, value: str, names: str) -> None:
    done = CliRunner().invoke(app, ["caption", COFFEE, option, value])
    assert (done.exit_code, done.stderr) == (2, f"capcli: {option} {value}: not one of {names}\n")
    environment = {"_CAPCLI_COMPLETE": "complete_bash", "COMP_WORDS": f"capcli caption {option} ", "COMP_CWORD": "3"}
    offered = CliRunner().invoke(app, [], env=environment, prog_name="capcli").stdout
    assert offered.split() == names.split(", ")
