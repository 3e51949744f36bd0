"""`capcli models`, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from folders import process

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.hub import find_checkpoint

pytestmark = pytest.mark.slow


def test_the_bundled_checkpoint_is_named_as_it_is_listed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    listed = dict(re.findall(r"^(\S+) .* MB  (.*)$", process("models").stdout, re.M))
    shown = json.loads(process("info", "bundled", "--json").stdout)
    assert shown["folder"] == listed["bundled"] == json.loads(process("info", "--json").stdout)["folder"]
    assert CaptionModel.from_pretrained("bundled").config.hidden_size == shown["hidden_size"]
    # A folder of this name comes first.
    tiny_checkpoint.rename(tmp_path / "bundled")
    assert find_checkpoint(tmp_path / "bundled") == tmp_path / "bundled"
    done = subprocess.run(
        [sys.executable, "-m", "capcli", "info", "bundled", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.getenv("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        timeout=1800,
        check=True,
    )
    assert json.loads(done.stdout)["folder"] == "bundled"
