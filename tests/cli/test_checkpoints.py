"""--model, info, models and push, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import PHOTOS
from hub_server import TOKEN, HubServer

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.hub import find_checkpoint

CAT = str(PHOTOS / "chelsea.jpg")


def capcli(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "capcli", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)


def test_a_pushed_run_is_captioned_with_from_the_hub(
    hub: HubServer, hub_environment: dict[str, str], tiny_checkpoint: Path
) -> None:
    environment = hub_environment | {"HF_TOKEN": TOKEN}
    pushed = capcli("push", str(tiny_checkpoint), "me/tiny", "--private", environment=environment)
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["me/tiny"]
    assert repository.private
    commit = repository.refs["main"]
    assert pushed.stdout == f"{hub.url}/me/tiny/commit/{commit}\n"
    local = capcli("caption", "--model", str(tiny_checkpoint), CAT)
    remote = capcli("caption", "--model", "me/tiny", CAT, environment=environment)
    assert remote.returncode == 0, remote.stderr
    assert remote.stdout == local.stdout
    assert len(local.stdout.split()) >= 1
    assert "Fetching" not in remote.stderr  # bars are for terminals
    listed = capcli("models", environment=environment).stdout
    size = sum(len(c) for n, c in repository.commits[commit].items() if n != "README.md")
    assert re.search(rf"^me/tiny +{size / 1e6:.1f} MB  .*{commit}$", listed, re.M)
    denied = capcli("info", "--model", "me/tiny@v2", environment=hub_environment)
    assert denied.returncode == 2
    assert denied.stdout == ""
    assert denied.stderr.startswith("capcli: me/tiny@v2: no such folder, not in the cache, and no repository on the")
    assert denied.stderr.count("\n") == 1


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
    done = capcli("models", environment=hub_environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"me/tiny@{commit}  " in done.stdout


def test_the_bundled_checkpoint_is_named_as_it_is_listed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    listed = dict(re.findall(r"^(\S+) .* MB  (.*)$", capcli("models").stdout, re.M))
    shown = json.loads(capcli("info", "--model", "bundled", "--json").stdout)
    assert shown["folder"] == listed["bundled"] == json.loads(capcli("info", "--json").stdout)["folder"]
    assert CaptionModel.from_pretrained("bundled").config.hidden_size == shown["hidden_size"]
    # A folder of this name comes first.
    tiny_checkpoint.rename(tmp_path / "bundled")
    assert find_checkpoint(tmp_path / "bundled") == tmp_path / "bundled"
    done = subprocess.run(
        [sys.executable, "-m", "capcli", "info", "--model", "bundled", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [os.getcwd(), os.getenv("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        timeout=1800,
        check=True,
    )
    assert json.loads(done.stdout)["folder"] == "bundled"


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


def test_info_tells_the_facts_and_the_card(tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# Of cats\n")
    shown = capcli("info", "--model", str(tiny_checkpoint), "--card")
    assert shown.returncode == 0, shown.stderr
    assert f"checkpoint   {tiny_checkpoint} (" in shown.stdout
    assert "vocabulary   12 words" in shown.stdout
    assert shown.stdout.endswith("device       cpu\n\n# Of cats\n")
    facts = json.loads(capcli("info", "--model", str(tiny_checkpoint), "--json").stdout)
    assert facts["vocabulary"] == 12
    assert facts["card"].endswith("# Of cats\n")
    assert facts["bytes"] > 5_000_000


@pytest.mark.parametrize("command", ["caption", "info", "push"])
def test_a_checkpoint_that_cannot_be_used_is_a_usage_error(command: str, tiny_checkpoint: Path) -> None:
    (tiny_checkpoint / "model.safetensors").rename(tiny_checkpoint / "pytorch_model.bin")
    model = ["--model", str(tiny_checkpoint)]
    arguments = {
        "caption": [CAT, *model],
        "info": model,
        "push": [str(tiny_checkpoint), "me/x"],
    }
    done = capcli(command, *arguments[command])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"capcli: {tiny_checkpoint}: the only weights are 'pytorch_model.bin', a pickle")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["caption", "--help"]])
def test_help_waits_for_nothing(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom capcli.cli.app import app\ntry:\n    app()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'huggingface_hub', 'safetensors', 'numpy', 'PIL', 'rich'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=1800, check=True)
    assert done.stderr == "set()\n"
