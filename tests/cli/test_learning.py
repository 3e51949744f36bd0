"""Folders of `train`, `teach` and `agree`: what a person has there stays, what a killed run left is no hindrance."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from fakes import PHOTOS
from typer.testing import CliRunner, Result

from capcli.checkpoints.caption_model import CaptionModel
from capcli.cli.app import app
from capcli.cli.learning import is_left_over, require_room
from capcli.training.learning.snapshot import write_log


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("teach", name) for name in ("README.md", "config.json", "vocabulary.json", "curves.html")),
        *(("agree", name) for name in ("README.md", "config.json", "memory.safetensors", "model.safetensors")),
        *(("train", name) for name in ("README.md", "config.json", "curves.html", "log.jsonl", "memory.safetensors")),
        *(("train --resume", name) for name in ("README.md", "curves.html", "log.jsonl")),
        *(("export bundled", name) for name in ("README.md", "vocabulary.json")),
    ],
)
def test_a_persons_files_are_not_replaced(tmp_path: Path, command: str, name: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text('{"mine": 1}\n')
    data = [] if command.startswith("export") else [PHOTOS]
    refused = run(*command.split(), *data, "--output", tmp_path / "mine")
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"capcli: {tmp_path / 'mine' / name}: exists; ")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]
    assert (tmp_path / "mine" / name).read_text() == '{"mine": 1}\n'


@pytest.mark.parametrize("renamed", range(4))
def test_a_killed_save_leaves_a_whole_checkpoint_or_none(
    tiny_model: CaptionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    replace, left = os.replace, [renamed]

    def killed(source: str, target: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny_model.save(tmp_path)
    monkeypatch.undo()
    if (tmp_path / "model.safetensors").exists():
        CaptionModel.load(tmp_path)
    else:
        assert all(map(is_left_over, tmp_path.iterdir()))
        require_room(tmp_path)  # the next run takes the folder
        tiny_model.save(tmp_path)
        CaptionModel.load(tmp_path)


def test_what_is_capclis_is_told_from_what_is_a_persons(tmp_path: Path) -> None:
    write_log(tmp_path, [])
    assert is_left_over(tmp_path / "log.jsonl")
    write_log(tmp_path, [{"epoch": 1, "loss": 2.0}])
    assert is_left_over(tmp_path / "log.jsonl")
    (tmp_path / "log.jsonl").write_text(json.dumps({"message": "started"}))
    assert not is_left_over(tmp_path / "log.jsonl")
    (tmp_path / "config.json").write_text("")
    assert not is_left_over(tmp_path / "config.json")
