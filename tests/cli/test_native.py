"""What C libraries say on stderr while photos are captioned."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ENVIRONMENT, capcli_apart, command, make_photos, photo_bytes
from PIL import Image

pytestmark = pytest.mark.slow


def test_what_libtiff_says_is_not_ours(tiny_checkpoint: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photo_bytes(1, "TIFF"))).save(buffer, "TIFF", compression="tiff_lzw")
    broken = bytearray(buffer.getvalue())
    broken[40:60] = bytes(20)
    (tmp_path / "a.tif").write_bytes(broken)
    explain = [sys.executable, "-m", "capcli", "explain", str(tmp_path / "a.tif"), "a cat", "--model", tiny_checkpoint]
    for done in (
        capcli_apart(tmp_path / "a.tif", "--model", tiny_checkpoint),
        subprocess.run(explain, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=1800),
    ):
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith(f"capcli: {tmp_path / 'a.tif'}: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="the exit status is that of a signal")
def test_a_crash_has_its_last_words(tiny_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 3)
    script = (
        "import os, sys\n"
        "import capcli.captioner, capcli.cli.app\n"
        "def open_square(*_):\n"
        "    os.write(2, b'Assertion `index < size` failed.\\n')\n"
        "    os.abort()\n"
        "capcli.images.decode.open_square = open_square\n"
        "capcli.cli.app.main()\n"
    )
    arguments = command(tmp_path / "photos", "--model", tiny_checkpoint)[3:]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=1800,
    )  # fmt: skip
    assert done.returncode == -signal.SIGABRT
    assert "Assertion `index < size` failed.\n" in done.stderr
    assert "Fatal Python error: Aborted" in done.stderr
    assert "in open_square" in done.stderr
