"""`capcli teach`, as a user runs it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import PHOTOS, SMALL
from fakes import train as run_training
from typer.testing import CliRunner, Result

from capcli.checkpoints.store import read_config, read_vocabulary
from capcli.cli.app import app
from capcli.installing import install_line


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def corrections(folder: Path) -> Path:
    """Two captions of each of two photos."""
    for name in ("chelsea.jpg", "coffee.jpg"):
        shutil.copy(PHOTOS / name, folder)
    rows = [{"file_path": n, "captions": ["our zorble here", "a zorble"]} for n in ("chelsea.jpg", "coffee.jpg")]
    path = folder / "corrections.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.slow
def test_a_trained_checkpoint_is_taught_and_captions(tmp_path: Path) -> None:
    data = corrections(tmp_path)
    trained = run_training(data, "--output", tmp_path / "run", "--epochs", 1, *SMALL)
    assert trained.exit_code == 0, trained.output
    done = run("teach", data, "--output", tmp_path / "mine", "--init", tmp_path / "run")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "mine" / "curves.html").read_text()
    assert "Some photos that were taught" in page  # too few to hold any out
    assert "you: our zorble here" in page
    captioned = run("caption", PHOTOS / "chelsea.jpg", "--model", tmp_path / "mine")
    assert captioned.exit_code == 0, captioned.output
    assert run("info", tmp_path / "mine").exit_code == 0
    assert "\n\ninit run, epochs " in (tmp_path / "mine" / "README.md").read_text()  # not where it lay
    refused = run("teach", data, "--output", tmp_path / "run")  # which was not taught
    assert (refused.exit_code, "holds a checkpoint; name another folder" in refused.output) == (2, True)
    words = read_vocabulary(tmp_path / "mine").words
    data.write_text(data.read_text().replace("our zorble", "our small fump").replace("a zorble", "a fump"))
    again = run("teach", data, "--output", tmp_path / "mine", "--init", tmp_path / "mine")
    assert again.exit_code == 0, again.output
    assert read_config(tmp_path / "mine").words_before == len(read_vocabulary(tmp_path / "run").words)
    assert set(read_vocabulary(tmp_path / "mine").words) - set(words) == {"fump", "small"}
    refused = run_training(data, "--output", tmp_path / "run2", "--init", tmp_path / "mine", "--epochs", 1)
    assert refused.exit_code == 2
    assert "was taught, and holds two decoders; train what it began as" in refused.output


def test_a_missing_tensorboard_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    refused = run("train", tmp_path / "none.json", "--output", tmp_path / "mine", "--tensorboard")
    assert refused.exit_code == 2
    assert refused.stderr == f"capcli: --tensorboard needs an extra package: {install_line('tensorboard')}\n"
    assert not (tmp_path / "mine").exists()


def test_bad_data_costs_a_line(tmp_path: Path) -> None:
    refused = run("teach", tmp_path / "none.json", "--output", tmp_path / "mine")
    assert refused.exit_code == 2
    assert f"{tmp_path / 'none.json'}: no such file or folder" in refused.output
    assert not (tmp_path / "mine" / "config.json").exists()


@pytest.mark.slow
def test_what_describes_photos_held_out_worse_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for number in range(6):
        shutil.copy(PHOTOS / "coffee.jpg", tmp_path / f"{number}.jpg")
        rows.append({"file_path": f"{number}.jpg", "captions": [f"a cup number {number} on a table"]})
    data = tmp_path / "corrections.json"
    data.write_text(json.dumps(rows))
    trained = run_training(data, "--output", tmp_path / "run", "--epochs", 1, *SMALL)
    assert trained.exit_code == 0, trained.output
    arguments = ("teach", data, "--output", tmp_path / "mine", "--init", tmp_path / "run")
    assert run(*arguments).exit_code in (0, 1)  # as the dice fall
    kept = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir() if path.suffix == ".safetensors"}

    def describe(lesson: Any, decoder: object, vocabulary: object, photos: list[int]) -> dict[int, str]:
        return {i: rows[i]["captions"][0] if decoder is lesson.before else "on" for i in photos}

    monkeypatch.setattr("capcli.training.teaching.judging.describe", describe)
    done = run(*arguments)
    assert done.exit_code == 1
    assert "photos held out in turn are described worse than before, so nothing of it is kept" in done.output
    assert {p.name: p.read_bytes() for p in (tmp_path / "mine").iterdir() if p.suffix == ".safetensors"} == kept
    state = json.loads((tmp_path / "mine" / "teaching.json").read_text())
    assert (state["kept"], state["pass"] == state["passes"], len(state["examples"])) == (False, True, 3)
    assert state["gain"][0] > state["gain"][1]
