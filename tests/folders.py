"""Folders and archives of generated photos, and the command that captions them."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from capcli.cli.app import app

# One thread for PyTorch: the tiny model gains nothing by more, and other tests want the cores.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def command(*arguments: object) -> list[str]:
    # Rounded to bfloat16, what a photo gives depends a little on the others in its batch.
    return [sys.executable, "-m", "capcli", "caption", "--precision", "fp32", *map(str, arguments)]


def capcli(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The finished command, which runs in this process."""
    given = command(*arguments)[3:]
    done = CliRunner().invoke(app, given, env={"COLUMNS": "100"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(given, done.exit_code, done.stdout, done.stderr)


def capcli_apart(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The finished command, in a process of its own; undecodable bytes of its output as surrogates."""
    options = {"capture_output": True, "text": True, "errors": "surrogateescape", "timeout": 1800} | options
    return subprocess.run(command(*arguments), env=ENVIRONMENT, check=False, **options)


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Any command of capcli, finished; it has the threads that it gives itself."""
    options = {"capture_output": True, "text": True, "timeout": 1800} | options
    return subprocess.run([sys.executable, "-m", "capcli", *map(str, arguments)], check=False, **options)


def on_terminal(arguments: list[str]) -> tuple[str, str]:
    """What a command shows on a terminal, and what it says on stderr, which is none. Skips where there are no terminals
    to be had."""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    ours, theirs = pty.openpty()
    done = subprocess.run(arguments, env=ENVIRONMENT, stdout=theirs, stderr=subprocess.PIPE, timeout=1800, check=True)
    os.write(theirs, b"end\n")
    shown = b""
    while not shown.endswith(b"end\r\n"):
        shown += os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)
    return shown.decode().replace("\r\n", "\n").removesuffix("end\n"), done.stderr.decode()


def photo_bytes(seed: int, format: str = "JPEG") -> bytes:
    """A coloured blur, different for each seed."""
    noise = random.Random(seed).randbytes(3 * 3 * 3)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (3, 3), noise).resize((90, 70), Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


def make_photos(folder: Path, number: int) -> list[Path]:
    """photo0.jpg … in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo{i}.jpg" for i in range(number)]
    for i, path in enumerate(paths):
        path.write_bytes(photo_bytes(i))
    return paths


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def captions(path: Path) -> dict[str, str]:
    """path → caption of a JSONL file in which no path comes twice."""
    found = {row["path"]: row["caption"] for row in rows(path)}
    assert len(found) == len(rows(path))
    return found


def make_tar(path: Path, files: dict[str, bytes]) -> None:
    """Write a tar file as WebDataset has them. files: name → content."""
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
