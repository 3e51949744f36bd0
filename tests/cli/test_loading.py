"""--model, info, models and push, as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import PHOTOS
from folders import process
from hub_server import HubServer

pytestmark = pytest.mark.slow

CAT = str(PHOTOS / "chelsea.jpg")


def test_a_damaged_ref_in_the_cache_costs_no_checkpoint(
    hub: HubServer, hub_environment: dict[str, str], checkpoint_files: dict[str, bytes], tmp_path: Path
) -> None:
    commit = "1" * 40
    home = tmp_path / "hf" / "hub" / "models--me--tiny"
    (home / "snapshots" / commit).mkdir(parents=True)
    for name, content in checkpoint_files.items():
        (home / "snapshots" / commit / name).write_bytes(content)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_bytes(b"\xff\xfe")
    done = process("models", env=hub_environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"me/tiny@{commit}  " in done.stdout


def test_a_terminal_may_watch_the_download(
    hub: HubServer, hub_environment: dict[str, str], checkpoint_files: dict[str, bytes]
) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    hub.add("user/tiny", checkpoint_files)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "capcli", "caption", "--model", "user/tiny", CAT]
    done = subprocess.run(
        command, env=hub_environment, stdout=subprocess.PIPE, stderr=theirs, timeout=1800, check=False
    )
    os.write(theirs, b"end\n")
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, shown
    assert done.stdout.count(b"\n") == 1
    assert "capcli: " not in shown


@pytest.mark.parametrize("command", ["caption", "info", "push"])
def test_a_checkpoint_that_cannot_be_used_is_a_usage_error(command: str, tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "model.safetensors").rename(tiny_checkpoint / "pytorch_model.bin")
    model = ["--model", str(tiny_checkpoint)]
    arguments = {
        "caption": [CAT, *model],
        "info": model[1:],
        "push": [str(tiny_checkpoint), "me/x"],
    }
    done = process(command, *arguments[command])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"capcli: {tiny_checkpoint}: the only weights are 'pytorch_model.bin', a pickle")
    assert done.stderr.count("\n") == 1
