import subprocess
import sys
from pathlib import Path

import pytest
from fakes import PHOTOS
from typer.testing import CliRunner

from capcli.cli.app import app

pytestmark = pytest.mark.slow


def bench(checkpoint: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capcli", "bench", "--model", checkpoint, "--device", "cpu", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True)


def test_a_folder_with_a_bad_image(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "good.jpg").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    done = bench(tiny_checkpoint, tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"capcli: {tmp_path / 'bad.jpg'}: not an image in a format that can be read\n"
    assert done.stdout.startswith("1 images, batches of 32, on cpu (")


def test_made_images(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capcli.cli.bench.MOST", 3)
    done = CliRunner().invoke(app, ["bench", "--model", str(tiny_checkpoint), "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("3 images, batches of 32, on cpu (")
    assert "\nbound by: " in done.stdout


def test_what_is_wrong_is_said_in_a_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([tmp_path / "absent"], f"{tmp_path / 'absent'}: no such file or folder"),
        ([tmp_path], f"no images in {tmp_path}"),
        (["--engine", "onnx", "--device", "cuda"], "engine onnx runs on a CPU in fp32"),
    ):
        done = bench(tiny_checkpoint, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"capcli: {message}")
