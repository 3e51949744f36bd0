"""Runs that are killed, interrupted, cut off, or find no room.

CAPCLI_FULL_TESTS=1 pytest tests/cli/test_interruption.py kills the command twenty times instead of three.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from folders import ENVIRONMENT, capcli, capcli_apart, captions, command, make_photos, photo_bytes, rows
from typer.testing import CliRunner

from capcli.cli.app import app

pytestmark = pytest.mark.slow

KILLS = 20 if os.environ.get("CAPCLI_FULL_TESTS") else 3


def wait_for_growth(process: subprocess.Popen, path: Path, size: int) -> None:
    """Return when the file is larger than size, or the process has ended."""
    while not path.exists() or path.stat().st_size <= size:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)
            return


def test_killed_at_random_and_resumed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 300)
    photos[7].write_bytes(b"no photo")
    options = ("--model", tiny_checkpoint, "--batch-size", 8)
    capcli(tmp_path / "photos", *options, "-o", tmp_path / "whole.jsonl")
    whole = [row for row in rows(tmp_path / "whole.jsonl") if "caption" in row]
    assert len(whole) == 299
    output, rng, kills = tmp_path / "out.jsonl", random.Random(1), 0
    resume = command(tmp_path / "photos", *options, "-o", output, "--resume", "--sidecar", "--existing", "append")
    while kills < KILLS:
        size = output.stat().st_size if output.exists() else 0
        process = subprocess.Popen(resume, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_growth(process, output, size)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, 0.1))
        if process.poll() is not None:  # it got to the end: once more from the beginning
            shutil.rmtree(tmp_path / "photos")
            make_photos(tmp_path / "photos", 300)[7].write_bytes(b"no photo")
            output.unlink()
            continue
        process.kill()
        process.wait()
        kills += 1
        *lines, half = output.read_bytes().split(b"\n")
        assert all(json.loads(line)["path"] for line in lines)
        if rng.random() < 0.5:  # as a power cut may leave it
            output.write_bytes(output.read_bytes()[: -rng.randrange(1, 40)] if lines else half)
    done = subprocess.run(resume, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 of" in done.stderr
    expected = {row["path"]: row["caption"] for row in whole}
    found = [row for row in rows(output) if "caption" in row]
    assert len(found) == 299  # none twice
    assert {row["path"]: row["caption"] for row in found} == expected
    assert [row["path"] for row in rows(output) if "error" in row] == [str(photos[7])]
    for row in whole:
        assert Path(row["path"]).with_suffix(".txt").read_text() == row["caption"] + "\n"


def test_a_table_is_resumed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "pho,tos", 20)
    output = tmp_path / "out.csv"
    options = (tmp_path / "pho,tos", "--model", tiny_checkpoint, "-o", output)
    assert capcli(*options).returncode == 0
    whole = output.read_bytes()
    output.write_bytes(whole[: len(whole) * 2 // 3])
    photos[15].unlink()
    assert capcli(*options, "--resume").returncode == 0
    found = [row["path"] for row in csv.DictReader(output.read_text().splitlines())]
    assert found == [str(p) for p in photos if p != photos[15]]
    photos[15].write_bytes(photo_bytes(15))
    assert capcli(*options, "--resume").returncode == 0
    assert sorted(output.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_resume_captions_nothing_twice(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 6)
    output = tmp_path / "out.jsonl"
    common = (tmp_path / "photos", "--model", tiny_checkpoint, "-o", output, "--sidecar", "--existing")
    for existing in ("overwrite", "fail"):
        done = capcli(*common, existing)
        assert done.returncode == 0, done.stderr
        rows_of_all = captions(output)
        output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:4]))
        for photo in photos:
            photo.with_suffix(".txt").write_text("whatever\n")
        if existing == "fail":  # where a run was killed, the last photos have no sidecars
            photos[4].with_suffix(".txt").unlink()
            photos[5].with_suffix(".txt").unlink()
        done = capcli(*common, existing, "--resume")
        assert (done.returncode, done.stderr.splitlines()[0]) == (0, "capcli: 4 images skipped: already captioned")
        assert captions(output) == rows_of_all
        sidecars = [photo.with_suffix(".txt").read_text() for photo in photos]
        assert sidecars == ["whatever\n"] * 4 + [rows_of_all[str(photo)] + "\n" for photo in photos[4:]]
        output.unlink()
        for photo in photos:
            photo.with_suffix(".txt").unlink()


def test_resume_knows_photos_by_any_spelling(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos(tmp_path / "photos", 4)
    monkeypatch.chdir(tmp_path)
    spellings = ["photos", "./photos", "photos/../photos/", str(tmp_path / "photos"), "photos/*.jpg"]
    with contextlib.suppress(OSError, NotImplementedError):
        (tmp_path / "link").symlink_to("photos", target_is_directory=True)
        spellings.append("link")
    for name in ("out.jsonl", "out.csv"):
        options = ("--model", str(tiny_checkpoint), "-o", name)
        assert CliRunner().invoke(app, ["caption", "photos", *options]).exit_code == 0
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
        for spelling in spellings:
            done = CliRunner().invoke(app, ["caption", spelling, *options, "--resume"])
            assert done.exit_code == 0, done.stderr
        assert (tmp_path / name).read_bytes() == whole


def test_resume_gives_low_confidence_another_chance(judging_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 4)
    output = tmp_path / "out.csv"
    common = (tmp_path / "photos", "--model", judging_checkpoint, "-o", output, "--resume")
    assert "4 captions left empty: confidence below 1" in capcli(*common, "--min-confidence", "1").stderr
    assert "4 images skipped" in capcli(*common, "--min-confidence", "1").stderr
    assert "left empty" not in capcli(*common, "--min-confidence", "0").stderr
    found = list(csv.DictReader(output.read_text().splitlines()))
    assert len(found) == 4
    assert all(row["caption"] for row in found)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is no signal that can be sent here")
def test_ctrl_c_finishes_the_batch_and_says_how_to_go_on(tiny_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 400)
    output = tmp_path / "out.jsonl"
    options = (tmp_path / "photos", "--model", tiny_checkpoint, "-o", output, "--batch-size", 4)
    process = subprocess.Popen(
        command(*options), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
        # Where the tests run in a shell's background, Ctrl-C is ignored and would be here too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    wait_for_growth(process, output, 0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 130
    assert errors.endswith("capcli: interrupted; to continue, run the same command with --resume\n")
    some = rows(output)  # whole rows only
    assert 0 < len(some) < 400
    assert capcli(*options, "--resume").returncode == 0
    assert len(captions(output)) == 400
    assert rows(output)[: len(some)] == some


def test_the_end_does_not_wait_for_standard_input(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with subprocess.Popen(
        command(tmp_path / "empty.jpg", "-", "--model", tiny_checkpoint),
        env=ENVIRONMENT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline() == f"capcli: {tmp_path / 'empty.jpg'}: the file is empty\n"
        for _ in range(2):  # the first waits for the batch in hand
            process.send_signal(signal.SIGINT)
            process.stderr.readline()
        assert process.wait(1800) == 130


def test_a_closed_pipe_ends_quietly(tiny_checkpoint: Path, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 300)
    process = subprocess.Popen(
        command(tmp_path / "photos", "--model", tiny_checkpoint, "--batch-size", 4),
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(str(tmp_path).encode())
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(1800) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_no_room_is_one_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo = make_photos(tmp_path, 1)[0]
    message = os.strerror(errno.ENOSPC).lower()
    with open("/dev/full", "w") as full:
        done = capcli_apart(
            photo, "--model", tiny_checkpoint, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (1, f"capcli: standard output: {message}\n")
    done = capcli_apart(photo, "--model", tiny_checkpoint, "-o", "/dev/full", "--format", "jsonl")
    assert (done.returncode, done.stderr) == (1, f"capcli: /dev/full: {message}\n")
    done = capcli_apart(photo, "--model", tiny_checkpoint, "-o", "/dev/full")  # text, as on standard output
    assert (done.returncode, done.stderr) == (1, f"capcli: /dev/full: {message}\n")


@pytest.mark.parametrize("option", ["--html", "--output"])
def test_a_disk_that_is_full_before_the_first_byte_is_a_failure_too(
    tiny_checkpoint: Path, tmp_path: Path, option: str
) -> None:
    photo = make_photos(tmp_path / "photos", 1)[0]
    script = (
        "import errno, os, sys\n"
        "from capcli import files\n"
        "def write(*_):\n"
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "files.WholeFile.write = write\n"
        "from capcli.cli.app import main\n"
        "main()\n"
    )
    output = tmp_path / ("page.html" if option == "--html" else "out.json")
    arguments = command(photo, "--model", tiny_checkpoint, option, output)[3:]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=1800,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, f"capcli: {output}: {os.strerror(errno.ENOSPC).lower()}\n")
    assert not output.exists()


@pytest.mark.parametrize("name", ["out.jsonl", "out.json"])
def test_a_disk_that_fills_up_leaves_something_valid(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("resource", reason="no limits on file sizes on this system")
    photos = make_photos(tmp_path / "photos", 60)
    output = tmp_path / name
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"  # an error instead of the signal, as a full disk gives
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from capcli.cli.app import main\n"
        "sys.argv[0] = 'capcli'\n"
        "main()\n"
    )
    arguments = command(tmp_path / "photos", "--model", tiny_checkpoint, "-o", output, "--batch-size", 8)[3:]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=1800,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, f"capcli: {output}: {os.strerror(errno.EFBIG).lower()}\n")
    if name == "out.json":
        assert not output.exists()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["photos", "tiny"]
    else:
        assert 0 < len(rows(output)) < 60
        assert capcli(*arguments[1:], "--resume").returncode == 0
        assert list(captions(output)) == [str(p) for p in photos]


def test_the_bar_is_for_terminals(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 20)
    photos[3].write_bytes(b"")
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(tmp_path / "photos", "--model", tiny_checkpoint),
        env=ENVIRONMENT | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    assert process.stdout is not None
    printed = process.stdout.read()
    seen = b""
    with contextlib.suppress(OSError):  # Linux's end of file for a terminal
        while chunk := os.read(ours, 1 << 16):
            seen += chunk
    os.close(ours)
    assert process.wait(1800) == 1
    assert printed.count(b"\n") == 19
    assert b"20/20" in seen
    assert b"images/s" in seen
    assert b"1 failed" in seen
    assert b"photo3.jpg: the file is empty" in seen
