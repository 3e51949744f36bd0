"""One writer to an output, and nothing left of runs that were killed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from capcli import locks
from capcli.files import GrowingFile, LockedFolder, WholeFile, write_whole
from capcli.locks import clear_leftovers

KINDS = (WholeFile, GrowingFile)
HOLD = """
import sys
from capcli.files import GrowingFile, WholeFile
file = getattr(sys.modules["capcli.files"], sys.argv[1])(sys.argv[2])
file.write("half")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def every_folder_is_new() -> None:
    """A process clears a folder once; here one process plays several."""
    clear_leftovers.cache_clear()


@contextlib.contextmanager
def another_run(kind: type, path: Path):  # type: ignore[no-untyped-def]
    """A process that has the file open; it ends by being killed."""
    command = [sys.executable, "-c", HOLD, kind.__name__, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("ours", KINDS)
def test_an_output_has_one_writer_and_a_killed_one_is_forgotten(tmp_path: Path, theirs: type, ours: type) -> None:
    path = tmp_path / "out"
    path.write_text("old\n")
    with another_run(theirs, path):
        with pytest.raises(OSError, match="in use by another run of capcli; wait until") as caught:
            ours(str(path))
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, str(path))
        assert path.read_text() == "old\n"
    file = ours(str(path))
    file.write("new\n")
    file.close()
    assert path.read_text() == ("new\n" if ours is WholeFile else "old\nnew\n")
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_there_yet_has_one_writer_too(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "out"
    with another_run(kind, path), pytest.raises(OSError, match="in use by another run of capcli; wait until"):
        kind(str(path))
    file = kind(str(path))
    assert len(os.listdir(tmp_path)) == 1  # ours, and nothing of theirs
    file.write("x")
    file.close()
    assert os.listdir(tmp_path) == ["out"]


def test_leftovers_of_other_outputs_are_cleared_and_living_runs_keep_theirs(tmp_path: Path) -> None:
    (tmp_path / ".capcli-0123abcd.tmp").write_bytes(b"of a run that was killed")
    (tmp_path / ".capcli.tmp").write_bytes(b"not ours")
    with another_run(WholeFile, tmp_path / "theirs"):
        write_whole(tmp_path / "ours", b"x")
        assert len(list(tmp_path.glob(".capcli-*"))) == 1
    clear_leftovers.cache_clear()
    write_whole(tmp_path / "ours", b"x")
    assert sorted(os.listdir(tmp_path)) == [".capcli.tmp", "ours"]


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    ours = LockedFolder(tmp_path)
    with pytest.raises(OSError, match="in use by another run of capcli; wait until") as caught:
        LockedFolder(tmp_path)
    assert caught.value.filename == str(tmp_path)
    write_whole(tmp_path / "run", b"")
    ours.close()
    LockedFolder(tmp_path).close()
    assert os.listdir(tmp_path) == ["run"]


def test_what_is_read_under_the_lock_is_still_true_when_it_is_replaced(tmp_path: Path) -> None:
    path, adders, times = tmp_path / "sum", 4, 25
    path.write_text("0")

    def add() -> None:
        for _ in range(times):
            with WholeFile(path, durable=False, timeout=1800) as file:
                file.write(str(int(path.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(adders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == str(adders * times)
    assert os.listdir(tmp_path) == ["sum"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks files on every file system")
def test_without_locks_everyone_writes_to_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    (tmp_path / ".capcli-0123abcd.tmp").write_bytes(b"of a run that may be alive")
    first, second = WholeFile(tmp_path / "out"), WholeFile(tmp_path / "out")
    first.write("first")
    second.write("second")
    first.close()
    assert (tmp_path / "out").read_text() == "first"
    with pytest.raises(OSError, match="made or changed by another program"):
        second.close()
    assert (tmp_path / "out").read_text() == "first"
    assert (tmp_path / "out-new").read_text() == "second"
    growing = GrowingFile(str(tmp_path / "rows"))
    growing.write("row\n")
    growing.close()
    assert (tmp_path / "rows").read_text() == "row\n"
    assert sorted(os.listdir(tmp_path)) == [".capcli-0123abcd.tmp", "out", "out-new", "rows"]


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="no such flag on this system")
def test_a_link_in_the_temporary_file_s_place_is_not_followed(tmp_path: Path) -> None:
    file = WholeFile(tmp_path / "out")
    file.discard()
    (tmp_path / "theirs").write_text("theirs")
    file.temporary.symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match="symbolic links"):
        WholeFile(tmp_path / "out")
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_growing_file_has_nothing_beside_it(tmp_path: Path) -> None:
    with another_run(GrowingFile, tmp_path / "out"):
        assert os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends itself no such signal")
@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_while_a_file_is_made_leaves_nothing(
    kind: type[WholeFile | GrowingFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def interrupted(path: str, *arguments: int) -> int:
        descriptor = real(path, *arguments)
        signal.raise_signal(signal.SIGTERM)
        return descriptor

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        monkeypatch.setattr(os, "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            kind(str(tmp_path / "out.jsonl"))
    finally:
        monkeypatch.undo()
        signal.signal(signal.SIGTERM, before)
    assert list(tmp_path.glob(".*.tmp")) == []
