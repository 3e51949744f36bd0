"""`capcli push`: what is pushed is found by its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fakes import PHOTOS
from folders import process
from hub_server import TOKEN, HubServer

pytestmark = pytest.mark.slow


def test_a_pushed_run_is_captioned_with_from_the_hub(
    hub: HubServer, hub_environment: dict[str, str], tiny_checkpoint: Path
) -> None:
    environment = hub_environment | {"HF_TOKEN": TOKEN}
    pushed = process("push", str(tiny_checkpoint), "me/tiny", "--private", env=environment)
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["me/tiny"]
    assert repository.private
    commit = repository.refs["main"]
    assert pushed.stdout == f"{hub.url}/me/tiny/commit/{commit}\n"
    local = process("caption", "--model", str(tiny_checkpoint), str(PHOTOS / "chelsea.jpg"))
    remote = process("caption", "--model", "me/tiny", str(PHOTOS / "chelsea.jpg"), env=environment)
    assert remote.returncode == 0, remote.stderr
    assert remote.stdout == local.stdout
    assert len(local.stdout.split()) >= 1
    assert "Fetching" not in remote.stderr  # bars are for terminals
    listed = process("models", env=environment).stdout
    size = sum(len(c) for n, c in repository.commits[commit].items() if n != "README.md")
    assert re.search(rf"^me/tiny +{size / 1e6:.1f} MB  .*{commit}$", listed, re.M)
    denied = process("info", "me/tiny@v2", env=hub_environment)
    assert denied.returncode == 2
    assert denied.stdout == ""
    assert denied.stderr.startswith("capcli: me/tiny@v2: no such folder, not in the cache, and no repository on the")
    assert denied.stderr.count("\n") == 1
