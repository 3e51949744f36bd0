"""`capcli agree`, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes import PHOTOS
from typer.testing import CliRunner, Result

from capcli.checkpoints import caption_model, hub
from capcli.cli.app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve photos, of which one is held out."""
    names = ("chelsea", "coffee", "astronaut")
    rows = []
    for number in range(12):
        shutil.copy(PHOTOS / f"{names[number % 3]}.jpg", tmp_path / f"{number}.jpg")
        rows.append({"file_path": f"{number}.jpg", "captions": [("a cat", "a dog on grass", "a man")[number % 3]]})
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.slow
def test_a_checkpoint_learns_to_rank_and_captions(data: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "ranked"
    done = run("agree", data, "--init", tiny_checkpoint, "--output", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert f"capcli caption --model {out}" in done.stderr
    told = run("info", out)
    assert "beam 3" in told.stdout
    assert "1 × the agreement with the photo added to the score" in told.stdout
    ranked, plain = (
        json.loads(run("caption", PHOTOS / "chelsea.jpg", "--model", out, "--format", "json", *more).stdout)[0]
        for more in ([], ["--set", "agreement=0"])
    )
    assert ranked["score"] != plain["score"]
    again = run("agree", data, "--init", tiny_checkpoint, "--output", out)
    assert (again.exit_code, "holds a checkpoint; name another folder" in again.output) == (2, True)


@pytest.mark.slow
def test_bundled_is_a_name_for_every_command_that_takes_a_checkpoint(
    data: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "bundled_checkpoint", lambda: tiny_checkpoint)
    common = (data, "--init", "bundled", "--device", "cpu", "--output")
    for command, more in (("train", ["--epochs", 1]), ("agree", [])):
        done = run(command, *common, tmp_path / command, *more)
        assert done.exit_code == 0, done.output
        assert (tmp_path / command / "model.safetensors").exists()
    record = json.loads((tmp_path / "train" / "config.json").read_text())["training"]
    assert record["options"]["init"] == "bundled"
    sent: list[Path] = []
    monkeypatch.setattr(caption_model, "upload", lambda folder, *_: sent.append(folder) or "https://…")
    assert run("push", "bundled", "me/x").stdout == "https://…\n"
    assert run("push", tmp_path / "train", "me/x").exit_code == 0
    assert sent == [tiny_checkpoint, tmp_path / "train"]
    refused = run("train", *common, tiny_checkpoint, "--resume")
    assert f"{tiny_checkpoint}: is the checkpoint of --init" in refused.output


def test_bad_data_costs_a_line(tmp_path: Path) -> None:
    refused = run("agree", tmp_path / "none.json", "--output", tmp_path / "ranked")
    assert refused.exit_code == 2
    assert f"{tmp_path / 'none.json'}: no such file or folder" in refused.output
    assert not (tmp_path / "ranked" / "config.json").exists()
