"""Training in several processes, which torchrun starts and gloo connects over the loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import PHOTOS, SAID, train

from capcli.checkpoints.caption_model import CaptionModel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a build of PyTorch with libuv there"),
]
SIZES = ("image_size=64", "hidden_size=16", "embedding_size=16", "attention_size=16", "min_count=1", "dropout=0")
TINY = [word for size in SIZES for word in ("--set", size)]
TRAIN = ["-m", "capcli", "train"]
TINY += "--set views=2 --set precision=fp32 --device cpu --set captions_per_batch=7".split()


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave METEOR out, which takes longest."""
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photos with one to three captions of different lengths, so that parts of a batch differ in their words."""
    rows = [
        {"file_path": name, "captions": captions, "split": "train"}
        for name, captions in [
            ("chelsea.jpg", ["a cat", "a cat looks into the camera", "one cat of a friend"]),
            ("coffee.jpg", ["a spoon beside a cup of coffee on a wooden table"]),
            ("astronaut.jpg", ["an astronaut smiles", "a woman in an orange suit before a flag"]),
        ]
    ]
    rows.append({"file_path": "dev.jpg", "captions": SAID["coffee.jpg"], "split": "dev"})
    (tmp_path / "data").mkdir()
    for row in rows:
        shutil.copy(PHOTOS / str(row["file_path"]).replace("dev", "coffee"), tmp_path / "data" / str(row["file_path"]))
    (tmp_path / "data" / "list.json").write_text(json.dumps(rows))
    return tmp_path / "data" / "list.json"


def start(processes: int, *arguments: object) -> subprocess.Popen[str]:
    """Start torchrun on a free port of the loopback. arguments: what it starts, and that program's arguments."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    where = ["--nnodes=1", f"--nproc-per-node={processes}", "--master-addr=127.0.0.1", f"--master-port={port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *where, *map(str, arguments)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    environment |= {"OMP_NUM_THREADS": "1"}
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **out, text=True, env=environment)  # type: ignore[call-overload, no-any-return]


def together(processes: int, *arguments: object) -> tuple[int, str]:
    """The status and what is said on stderr, without what torchrun says itself."""
    process = start(processes, *TRAIN, *arguments)
    try:
        return finish(process)
    finally:
        process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, said = process.communicate(timeout=1800)
    assert out == ""
    return process.returncode, said


def log_of(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row.get("loss", row.get("reward")) for row in rows]


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = (CaptionModel.load(run).state_dict() for run in (first, second))
    for name, tensor in one.items():
        # Adam divides a gradient by its size, so a single weight whose gradient is all but zero follows its rounding;
        # not so a whole tensor. Weights are stored in half precision.
        difference = two[name].float() - tensor.float()
        assert difference.square().mean().sqrt() < 3e-4, name


def test_two_processes_compute_what_one_does(data: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    more = ["--epochs", 2, "--set", "attention_regularization=0.5", "--set", "average=0.9", *TINY]
    assert train(f"{data}=10", "-o", one, *more).exit_code == 0
    status, said = together(2, f"{data}=10", "-o", two, *more)
    assert status == 0, said
    assert said.count("in 2 processes") == said.count("epoch 1/2") == said.count("the best checkpoint is in") == 1
    assert log_of(two) == pytest.approx(log_of(one), rel=1e-5)
    assert_same_weights(one, two)
    assert "torchrun --nproc-per-node=2 -m capcli train" in (two / "README.md").read_text()


def test_the_encoder_is_trained_together_too(data: Path, tmp_path: Path) -> None:
    start_from = tmp_path / "start"
    assert train(data, "-o", start_from, "--epochs", 1, *TINY).exit_code == 0
    more = [
        "--init",
        start_from,
        "--fine-tune",
        "--epochs",
        1,
        "--set",
        "captions_per_batch=7",
        "--set",
        "precision=fp32",
    ]
    more += ["--device", "cpu", "--set", "encoder_learning_rate=1e-3"]
    assert train(f"{data}=2", "-o", tmp_path / "one", *more).exit_code == 0
    status, said = together(2, f"{data}=2", "-o", tmp_path / "two", *more)
    assert status == 0, said
    assert log_of(tmp_path / "two") == pytest.approx(log_of(tmp_path / "one"), rel=1e-5)
    assert_same_weights(tmp_path / "one", tmp_path / "two")


def lines_of_capcli(said: str) -> list[str]:
    return re.findall("^capcli: .*$", said, re.MULTILINE)


def test_an_error_is_told_once(data: Path, tmp_path: Path) -> None:
    status, said = together(2, tmp_path / "missing.json", "-o", tmp_path / "run", *TINY)
    assert status != 0
    assert len(lines_of_capcli(said)) == 1
    assert "missing.json" in lines_of_capcli(said)[0]
    # one that only rank 0 meets, while the other waits for it
    (data.parent / "chelsea.jpg").write_text("no photo")
    status, said = together(2, data, "-o", tmp_path / "run", *TINY)
    assert status != 0
    assert len(lines_of_capcli(said)) == 1
    assert "chelsea.jpg" in lines_of_capcli(said)[0]


def wait_for(begin: str, process: subprocess.Popen[str]) -> None:
    """Read what a process says up to a line that begins so."""
    assert process.stderr is not None
    assert any(line.startswith(begin) for line in process.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes and threads in /proc")
def test_a_process_that_is_killed_ends_all(data: Path, tmp_path: Path) -> None:
    process = start(2, *TRAIN, f"{data}=60", "--epochs", 100, *TINY, "-o", tmp_path / "run")
    try:
        wait_for("epoch 1/100", process)
        ranks = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(ranks[1]), signal.SIGKILL)
        status, said = finish(process)
    finally:
        process.kill()
    assert status != 0
    assert len(lines_of_capcli(said)) == 1, said
    assert said.count("Traceback") == 1  # torchrun's own


def test_three_processes_reward_captions_drawn_from_the_decoder(data: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    assert train(data, "-o", begun, "--epochs", 1, *TINY).exit_code == 0
    more = ["--init", begun, "--self-critical", "--epochs", 2, "--device", "cpu", "--set", "captions_per_batch=20"]
    status, said = together(3, f"{data}=3", "-o", tmp_path / "run", *more)
    assert status == 0, said
    assert not lines_of_capcli(said)
    assert len(log_of(tmp_path / "run")) == 2


LEAVING = """
import os, torch
from pathlib import Path
from capcli.training.learning.ranks import Ranks

def threads():
    return {(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()}

ranks = Ranks.started()
with ranks.meet(torch.device("cpu")):
    weight = torch.ones(3, requires_grad=True)
    weight.sum().backward()
    ranks.add_gradients([weight])
    torch.optim.AdamW([weight]).step()
    assert any("gloo" in name for name in threads())
assert not any("gloo" in name for name in threads())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes and threads in /proc")
def test_no_thread_of_gloo_is_left_that_could_abort_a_process_as_it_ends(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    process = start(2, tmp_path / "leaving.py")
    try:
        status, said = finish(process)
    finally:
        process.kill()
    assert status == 0, said


def test_ctrl_c_ends_all_with_one_line_and_one_process_goes_on(data: Path, tmp_path: Path) -> None:
    more = [f"{data}=60", "--epochs", 4, *TINY]
    process = start(2, *TRAIN, *more, "-o", tmp_path / "two")
    try:
        wait_for("epoch 1/4", process)
        process.send_signal(signal.SIGINT)
        status, said = finish(process)
    finally:
        process.kill()
    assert status != 0
    assert lines_of_capcli(said) == ["capcli: interrupted"]
    for name in ("two", "one"):
        result = train(*more, "-o", tmp_path / name, "--resume")
        assert result.exit_code == 0, result.stderr
    assert log_of(tmp_path / "two") == pytest.approx(log_of(tmp_path / "one"), rel=1e-4)
