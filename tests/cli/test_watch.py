"""`capcli caption --watch`: runs that go on, are stopped, killed, and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from folders import ENVIRONMENT, capcli, command, make_photos, photo_bytes, rows

pytest.importorskip("watchfiles", reason="no watchfiles")
KILLS = 20 if os.environ.get("CAPCLI_FULL_TESTS") else 2
PHOTOS = 500 if os.environ.get("CAPCLI_FULL_TESTS") else 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dry-run",), "--watch goes on until it is stopped, so it cannot be combined with --dry-run"),
        (("photos/photo0.jpg",), "photos/photo0.jpg: --watch takes folders only"),
        (("--files-from", "list"), "--watch cannot be combined with --files-from"),
    ],
)
def test_what_cannot_be_watched(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(Path("photos"), 1)
    Path("list").touch()
    done = capcli("photos", "--watch", *arguments)
    assert (done.returncode, done.stderr) == (2, f"capcli: {said}\n")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_renamed_replaced_and_each_captioned_once(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Rows and sidecars at the end are those of one run over the folder as it is then."""
    if os.name == "nt":
        pytest.skip("Windows sends no Ctrl-C to a process alone")
    rng, folder, output = random.Random(1), tmp_path / "photos", tmp_path / "out.jsonl"
    folder.mkdir()
    watching = command(
        *(folder, "--watch", "--model", tiny_checkpoint, "-o", output, "--resume", "--sidecar"),
        *("--cache", tmp_path / "cache"),
    )

    def started() -> subprocess.Popen[bytes]:
        return subprocess.Popen(watching, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def until(count: int, process: subprocess.Popen[bytes]) -> None:
        while not (output.exists() and output.read_bytes().count(b"\n") >= count):
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError(process.stderr.read() if process.stderr else "")

    process, done = started(), 0
    for number in range(PHOTOS):
        content = photo_bytes(number)
        path = folder / f"photo{number}.jpg"
        part = folder / f"part{number}.jpg" if number % 3 == 0 else path
        for begin in range(0, len(content), 400):  # in pieces
            with open(part, "ab") as file:
                file.write(content[begin : begin + 400])
        if part != path:
            part.rename(path)
        if number % 10 == 9:  # replaced before anybody looks
            (folder / ".new").write_bytes(photo_bytes(1000 + number))
            os.replace(folder / ".new", path)
        if (number + 1) % (PHOTOS // KILLS) == 0:
            if rng.random() < 0.5:
                until(done + 1, process)
            process.kill()
            process.communicate()
            done = output.read_bytes().count(b"\n") if output.exists() else 0
            process = started()
    until(PHOTOS, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert b"bug" not in said
    paths = [row["path"] for row in rows(output)]
    assert sorted(paths) == sorted(str(path) for path in folder.glob("*.jpg"))  # each, once
    capcli(folder, "--model", tiny_checkpoint, "-o", tmp_path / "whole.jsonl")
    whole = {row["path"]: row["caption"] for row in rows(tmp_path / "whole.jsonl")}
    assert {row["path"]: row["caption"] for row in rows(output)} == whole
    assert all(Path(path).with_suffix(".txt").read_text() == f"{caption}\n" for path, caption in whole.items())
