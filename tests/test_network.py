"""Nothing leaves the machine unasked: commands in a network namespace whose name server records what it is asked.

CAPCLI_FULL_TESTS=1 pytest tests/test_network.py also trains, and has the server and a program wait for half a minute.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import PHOTOS, SMALL

ROOT = Path(__file__).parents[1]
# No proxy that would ask for names in the command's place, and nothing that says already what capcli has to say.
LEFT_OUT = ("ORT_", "HF_", "RAY_", "XDG_", "DO_NOT_TRACK", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
APART = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"]
CHELSEA = PHOTOS / "chelsea.jpg"
LOOK_UP = "import socket\nsocket.getaddrinfo('recorded.test', 80)"
LIBRARY = "import capcli, sys, time\ncapcli.Captioner.load().caption(sys.argv[1])\ntime.sleep(int(sys.argv[2]))"
full = pytest.mark.skipif(not os.environ.get("CAPCLI_FULL_TESTS"), reason="takes minutes: CAPCLI_FULL_TESTS=1 runs it")


def can_be_apart() -> bool:
    """Whether this process may make namespaces, and has what works in them."""
    if not all(map(shutil.which, ("unshare", "ip", "mount"))):
        return False
    try_it = [*APART, "ip", "link", "set", "lo", "up"]
    return subprocess.run(try_it, capture_output=True, check=False).returncode == 0


apart = pytest.mark.skipif(not can_be_apart(), reason="only root on Linux may make namespaces of network and mounts")


def asked(home: Path, *commands: list[object]) -> list[tuple[int, list[str], str]]:
    """Each command's status, the names that it asked for, and what it said on stderr."""
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(LEFT_OUT)}
    done = subprocess.run(
        [*APART, sys.executable, ROOT / "tests" / "recorded.py"],
        input=json.dumps([[str(part) for part in command] for command in commands]),
        env=environment | {"HOME": str(home)}, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(each) for each in json.loads(done.stdout)]


def capcli(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "capcli", *arguments]


@pytest.mark.slow
@apart
@pytest.mark.timeout(1800)
def test_no_command_asks_for_a_name_or_leaves_a_file_at_home(tiny_checkpoint: Path, tmp_path: Path) -> None:
    home, model = tmp_path / "home", ["--model", tiny_checkpoint]
    (tmp_path / "page.html").write_text(f'<img src="{CHELSEA.name}">')
    shutil.copy(CHELSEA, tmp_path)
    first, *found = asked(
        home,
        [sys.executable, "-c", LOOK_UP],
        capcli("caption", CHELSEA, *model, "-o", tmp_path / "a.jsonl"),
        capcli("alt", tmp_path / "page.html", *model),
        capcli("write", tmp_path / "a.jsonl", "-o", tmp_path / "a.csv"),
        capcli("explain", CHELSEA, "a cat", *model),
        ["timeout", "5", *capcli("serve", "--port", 0, *model)],
        capcli("bench", *model),
        capcli("info"),
        capcli("models"),
        capcli("export", tiny_checkpoint, "--output", tmp_path / "out"),
        [sys.executable, "-c", LIBRARY, CHELSEA, 0],
    )
    assert first[1] == ["recorded.test"]  # it does record
    assert [names for _, names, _ in found] == [[]] * len(found)
    assert [status for status, _, _ in found] == [0, 0, 0, 0, 124, 0, 0, 0, 0, 0], found
    assert not [path for path in home.rglob("*") if path.is_file()]  # ONNX Runtime's number of the machine was one


@pytest.mark.slow
@full
@apart
@pytest.mark.timeout(1800)
def test_neither_does_one_that_takes_long(tiny_checkpoint: Path, pair: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    data: list[object] = [pair, "--init", tiny_checkpoint]
    found = asked(
        tmp_path / "home",
        ["timeout", "30", *capcli("serve", "--port", 0)],
        [sys.executable, "-c", LIBRARY, CHELSEA, 25],
        capcli("train", pair, "--output", run, "--epochs", 1, *SMALL),
        capcli("evaluate", pair, "--model", run),
        capcli("teach", *data, "--output", tmp_path / "taught"),
        capcli("agree", *data, "--output", tmp_path / "agrees"),
    )
    assert [names for _, names, _ in found] == [[]] * len(found)
    assert [status for status, _, _ in found[:4]] == [124, 0, 0, 0], found


def test_onnx_runtime_is_imported_in_one_place() -> None:
    found = set()
    for path in [*ROOT.joinpath("capcli").rglob("*.py"), *ROOT.joinpath("tests").rglob("*.py")]:
        tree = ast.parse(path.read_text("utf-8"))
        checked = {node for test in ast.walk(tree) if isinstance(test, ast.If) for node in ast.walk(test)}
        for node in set(ast.walk(tree)) - checked:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "onnxruntime" for name in names):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {"capcli/engines/runtime.py"}


@pytest.mark.slow
@pytest.mark.parametrize(("theirs", "ours"), [(None, "1"), ("0", "0")])
def test_what_a_person_has_set_stays(theirs: str | None, ours: str) -> None:
    names = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment |= {} if theirs is None else dict.fromkeys(names, theirs)
    script = (
        "import os, sys, types\n"
        "sys.modules['onnxruntime'] = types.SimpleNamespace(disable_telemetry_events=lambda: print('told'))\n"
        "import capcli.checkpoints.hub, capcli.engines.runtime\n"
        f"print(*map(os.environ.get, {names}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=1800
    )
    told = "told\n" if theirs is None else ""  # a program may have loaded it before
    assert (done.stdout, done.stderr) == (f"{told}{ours} {ours}\n", "")
