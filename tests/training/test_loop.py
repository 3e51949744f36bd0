import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import PHOTOS

from capcli.captioner import Captioner
from capcli.model import CaptionModel

SAID = {
    "chelsea.jpg": ["a cat looks into the camera", "a cat looks into the camera"],
    "coffee.jpg": ["a cup of coffee on a wooden table", "a cup of coffee on a wooden table"],
}
SMALL = ["--image-size", "96", "--hidden-size", "64", "--embedding-size", "64", "--attention-size", "32"]
SMALL += ["--min-count", "1", "--views", "1", "--label-smoothing", "0", "--dropout", "0", "--device", "cpu"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two photos, which are train and dev at once."""
    rows = [
        {"file_path": str(PHOTOS / name), "captions": captions, "split": split}
        for split in ("train", "dev")
        for name, captions in SAID.items()
    ]
    (tmp_path / "pair.json").write_text(json.dumps(rows))
    return tmp_path / "pair.json"


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capcli", "train", *map(str, arguments)]
    # No Java on this path: starting it after each epoch would take most of the test's time.
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": ""})


def test_two_photos_are_learnt_by_heart(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(
        f"{data}=120", "--output", run, "--epochs", 3, "--captions-per-batch", 4, "--learning-rate", "0.005", *SMALL
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    captioner = Captioner.load(run, "cpu")
    for name, captions in SAID.items():
        assert captioner.caption(PHOTOS / name).text == captions[0]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == [1, 2, 3]
    assert log[-1]["loss"] < log[0]["loss"] / 10
    scores = CaptionModel.load(run).config.scores[tmp_path.name]
    assert scores["bleu_4"] == pytest.approx(100, abs=0.01)
    assert not (run / "features").exists()
    card = (run / "README.md").read_text()
    assert "pipeline_tag: image-to-text" in card
    assert "capcli train" in card


def test_a_resumed_run_ends_like_an_uninterrupted_one(data: Path, tmp_path: Path) -> None:
    common = [data, "--epochs", 4, "--captions-per-batch", 2, *SMALL[:-4], "--dropout", "0.3", "--device", "cpu"]
    assert train(*common, "--output", tmp_path / "whole").returncode == 0
    script = (
        "import sys; from capcli.training import loop; save = loop.Run.save_last\n"
        "def stop(self, row):\n save(self, row)\n if self.epoch == 2: import os; os._exit(9)\n"
        "loop.Run.save_last = stop; from capcli.cli import main; main()"
    )
    arguments = ["train", *map(str, common), "--output", str(tmp_path / "cut")]
    interrupted = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, env={**os.environ, "PATH": ""}
    )
    assert interrupted.returncode == 9
    refused = train(*common, "--output", tmp_path / "cut")
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    other = train(*common, "--output", tmp_path / "cut", "--resume", "--seed", 5)
    assert other.returncode == 2
    assert "begun with seed 1" in other.stderr
    resumed = train(*common, "--output", tmp_path / "cut", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after epoch 2" in resumed.stderr
    whole, cut = CaptionModel.load(tmp_path / "whole"), CaptionModel.load(tmp_path / "cut")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(cut.state_dict()[name], tensor), name
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (tmp_path / r / "log.jsonl").open()]
        for r in ("whole", "cut")
    ]
    assert logs[0] == logs[1]


def test_bad_data_is_one_line(tmp_path: Path) -> None:
    result = train(tmp_path / "absent", "--output", tmp_path / "run")
    assert result.returncode == 2
    assert result.stderr == f"capcli: {tmp_path / 'absent'}: no such file or folder\n"
