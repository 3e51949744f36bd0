from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from capcli.cli import serve as command
from capcli.cli.app import app
from capcli.cli.options import Writing
from capcli.installing import install_line
from capcli.results import ImageError


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


def test_no_sidecar_takes_the_place_of_the_corrections(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    placing = Writing(sidecar=True, sidecar_ext=".json")
    album = command.open_album(str(tmp_path), placing, None)
    for sink in album.keeper.sinks[0]:
        with pytest.raises(ImageError, match=r"it would share its sidecar .*corrections\.json with the corrections"):
            sink.wants(str(tmp_path / "corrections.jpg"))
    album.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_corrections_in_a_pipe_are_refused(tmp_path: Path, tiny_files: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    os.mkfifo(tmp_path / "corrections.json")
    done = CliRunner().invoke(app, ["serve", str(tmp_path), "--port", "0", "--model", str(tiny_files)])
    line = f"capcli: {os.path.realpath(tmp_path)}/corrections.json: not a regular file\n"
    assert (done.exit_code, done.stderr) == (1, line)


def test_a_list_that_cannot_be_kept_is_told_in_a_line(tmp_path: Path, tiny_files: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    file = tmp_path / "corrections.json"

    def told() -> tuple[int, str]:
        done = CliRunner().invoke(app, ["serve", str(tmp_path), "--port", "0", "--model", str(tiny_files)])
        return done.exit_code, done.stderr

    file.write_text('[{"file_path": "a.jpg", "captions": []}]')
    wrong = "row 1 (a.jpg) has no caption; write one, or remove the row"
    assert told() == (1, f"capcli: {file}: {wrong}\n")
    file.write_text("[]")
    file.chmod(0o444)
    assert told() == (1, f"capcli: {file}: it is read-only\n")
    assert file.read_text() == "[]"


def test_without_the_extra_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capcli.engines.choose.are_installed", lambda *packages: "uvicorn" not in packages)
    done = CliRunner().invoke(app, ["serve"])
    assert (done.exit_code, done.stderr) == (
        2,
        f"capcli: serve needs Starlette, uvicorn and python-multipart: {install_line('serve')}\n",
    )


@pytest.mark.slow
def test_captioning_imports_nothing_of_it() -> None:
    program = (
        "import sys, capcli.cli.app, capcli.cli.caption, capcli.captioner, capcli.cli.run, capcli.outputs.formats\n"
        "print([name for name in ('starlette', 'uvicorn', 'anyio', 'python_multipart') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
