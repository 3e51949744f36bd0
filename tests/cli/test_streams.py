"""The standard streams: closed, or with a full disk behind them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ENVIRONMENT, capcli_apart, captions, make_photos, rows


def close(*descriptors: int):  # type: ignore[no-untyped-def]
    def preexec() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return preexec


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="shells there close no streams")
def test_closed_streams(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo, _ = make_photos(tmp_path, 2)
    common, output = (photo, "--model", tiny_checkpoint), tmp_path / "o.jsonl"
    expected = capcli_apart(*common).stdout
    done = capcli_apart(*common, preexec_fn=close(1))
    assert (done.returncode, done.stderr) == (1, "capcli: standard output: bad file descriptor\n")
    done = capcli_apart(*common, "-o", output, preexec_fn=close(1))
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(output)[0]["caption"] + "\n" == expected
    done = capcli_apart(*common, "gone.jpg", preexec_fn=close(2))
    assert (done.returncode, done.stdout) == (2, "")
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    done = capcli_apart(*common, tmp_path / "bad.jpg", preexec_fn=close(2))
    assert (done.returncode, done.stdout) == (1, f"{photo}\t{expected}")
    done = capcli_apart(*common, "-o", output, "--resume", tmp_path / "photo1.jpg", preexec_fn=close(0, 1, 2))
    assert done.returncode == 0
    assert len(captions(output)) == 2


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_behind_a_stream_is_one_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo = make_photos(tmp_path, 1)[0]
    model = ["--model", str(tiny_checkpoint)]
    for arguments in (
        ["info", *model[1:]],
        ["models"],
        ["explain", photo, "a cat", *model],
        ["caption", photo, *model, "--format", "json"],
        ["--help"],
        ["--version"],
    ):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "capcli", *map(str, arguments)],
                env=ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=1800,
            )  # fmt: skip
        message = f"capcli: standard output: {os.strerror(errno.ENOSPC).lower()}\n"
        assert (done.returncode, done.stderr) == (1, message), arguments
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    with open("/dev/full", "w") as full:
        done = capcli_apart(
            photo, tmp_path / "bad.jpg", *model, capture_output=False, stdout=subprocess.PIPE, stderr=full
        )
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
