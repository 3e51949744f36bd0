"""`--dry-run` of one training, and the end of a run that no longer gets better."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fakes import SMALL, train

from capcli.training.learning import loop
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.snapshot import is_over

FEW = ["--set", "captions_per_batch=6"]  # so that a step takes no time


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--fine-tune", "--set", "frozen_blocks=8"]])
def test_a_dry_run_measures_and_writes_nothing(pair: Path, tmp_path: Path, more: list[str]) -> None:
    run = tmp_path / "run"
    done = train(f"{pair}=50", "--output", run, "--dry-run", "--epochs", 3, *SMALL, *more, *FEW)
    assert done.exit_code == 0, done.stderr
    assert not run.exists()
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines())
    assert lines["photos"] == "2 to train on, 2 dev"
    assert lines["model"].startswith("efficientnet_lite2, soft, ")
    assert ("encoding" in lines) != bool(more)
    if not more:  # two views: a photo of each split; 3×3 cells and the global vector, 1,280 channels of two bytes
        assert re.fullmatch(rf"4 views once, about .*:\d\d:\d\d; 0\.00 GB in {run}", lines["encoding"])
    assert re.fullmatch(r"100 photos, about .*:\d\d:\d\d, and .*:\d\d:\d\d for dev photos", lines["an epoch"])
    assert re.fullmatch(r"3 epochs, about .*:\d\d:\d\d on cpu in (bf16|fp32)", lines["the run"])
    assert re.match(r"\d+\.\d GB at the peak so far$", lines["memory"])
    assert re.match(r"\d+ MB for the checkpoint, \d+ MB to resume$", lines["disk"])


@pytest.mark.slow
def test_a_run_ends_when_patience_does(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ciders = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    monkeypatch.setattr(loop, "mean_cider", lambda scores, sets: next(ciders))
    run, more = tmp_path / "run", ["--epochs", 5, "--set", "patience=2", *SMALL]
    assert train(pair, "--output", run, *more).exit_code == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["cider"] for row in log] == [1.0, 3.0, 2.0, 2.5]
    again = train(pair, "--output", run, "--resume", *more)
    assert again.exit_code == 0
    assert "epoch 4/4 is done and measured: nothing is left to do" in again.stderr
    card = (run / "README.md").read_text()
    assert re.search(r"^Made with capcli \S+, Python \S+, PyTorch \S+, NumPy \S+, on cpu\.$", card, re.M)
    assert "seed 1" in card


@pytest.mark.parametrize(
    ("ciders", "over"),
    [([], False), ([1, 2, 1], False), ([2, 1, 1], True), ([2, 1, 2], False), ([0, 0, 0, 0], False), ([1] * 9, True)],
)
def test_when_a_run_is_over(ciders: list[float], over: bool) -> None:
    log = [{"cider": float(cider)} for cider in ciders]
    assert is_over(log, TrainOptions(("x",), epochs=9, patience=2)) == over
    assert not is_over(log[:8], TrainOptions(("x",), epochs=9))
