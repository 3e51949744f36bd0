from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capcli.cli import serve as command
from capcli.cli.app import app


def test_an_address_in_use_is_told_before_a_model_is_loaded() -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["serve", "--port", str(port), "--model", "no-such-model"])
    assert done.exit_code == 1
    assert done.stderr == f"capcli: 127.0.0.1:{port}: address already in use; choose another with --port\n"


def test_an_address_that_is_not_ours() -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    done = CliRunner().invoke(app, ["serve", "--host", "203.0.113.7", "--token", "x" * 16])
    assert done.exit_code == 1
    assert done.stderr.startswith("capcli: 203.0.113.7:8765: ")
    assert done.stderr.count("\n") == 1


def test_keywords_that_would_go_nowhere_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    done = CliRunner().invoke(app, ["serve", str(tmp_path), "--sidecar", "--keywords", "3"])
    assert done.exit_code == 2
    assert done.stderr == "capcli: --keywords needs {keywords} in --template, or --fields keywords\n"


def test_without_the_extra_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capcli.engines.choose.are_installed", lambda *packages: "uvicorn" not in packages)
    done = CliRunner().invoke(app, ["serve"])
    assert (done.exit_code, done.stderr) == (
        2,
        f"capcli: serve needs Starlette, uvicorn and python-multipart: {command.INSTALL}\n",
    )


def test_captioning_imports_nothing_of_it() -> None:
    program = (
        "import sys, capcli.cli.app, capcli.cli.caption, capcli.captioner, capcli.cli.run, capcli.outputs.formats\n"
        "print([name for name in ('starlette', 'uvicorn', 'anyio', 'python_multipart') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
