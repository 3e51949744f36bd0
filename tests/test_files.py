import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from capcli.files import GrowingFile, OutputError, WholeFile, write_whole


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    file = WholeFile(target)
    file.write("new")
    file.flush()
    assert target.read_text() == "old"
    file.close()
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    file = WholeFile(target)
    file.write("new")
    file.__exit__(ZeroDivisionError)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are of another kind here")
def test_permissions_are_the_usual_ones_or_those_of_the_old_file(tmp_path: Path) -> None:
    plain, old = tmp_path / "plain", tmp_path / "old"
    plain.touch()
    write_whole(tmp_path / "new", b"x")
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode
    old.touch()
    old.chmod(0o640)
    write_whole(old, b"x", like=old)
    assert old.stat().st_mode & 0o777 == 0o640


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 251 + ".txt")
    write_whole(target, b"x")
    assert target.read_bytes() == b"x"


def test_lines_reach_the_file_together(tmp_path: Path) -> None:
    file = GrowingFile(str(tmp_path / "a.jsonl"))
    file.write("one\n")
    file.write("t\udcffwo\n")
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    file.flush()
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\nt\xffwo\n"
    file.close()
    again = GrowingFile(str(tmp_path / "a.jsonl"))
    again.write("three\n")
    again.close()
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\nt\xffwo\nthree\n"


FILL = """
import resource, signal, sys
from capcli.files import GrowingFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = GrowingFile(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    for _ in range(100):
        file.write("x" * 29 + "\\n")
        file.write("y" * 6 + "\\n")
        file.flush()
except OSError as error:
    print(error.errno)
"""


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="no limits on file sizes on this system")
    # The system takes what still fits: 1000 is no multiple of 37, so half a batch would be left behind.
    done = subprocess.run([sys.executable, "-c", FILL, tmp_path / "f"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(errno.EFBIG)
    assert (tmp_path / "f").read_text() == ("x" * 29 + "\n" + "y" * 6 + "\n") * (1000 // 37)


def test_errors_are_one_line() -> None:
    assert str(OutputError("a.csv", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))) == (
        "a.csv: no space left on device"
    )


@pytest.mark.parametrize("old", ["old\n", ""])
def test_what_grows_replaces_the_old_file_by_its_first_lines(tmp_path: Path, old: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(old)
    path.chmod(0o640)
    file = GrowingFile(str(path), replace=True)
    file.flush()
    assert path.read_text() == old
    file.write("one\n")
    file.flush()
    assert path.read_text() == "one\n"
    file.write("two\n")
    file.close()
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["a.csv"]


REPLACE = """
import resource, signal, sys
from capcli.files import GrowingFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = GrowingFile(sys.argv[1], replace=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (2, resource.RLIM_INFINITY))
file.write("new line\\n")
try:
    file.close()
except OSError as error:
    print(error.errno, error.filename)
"""


@pytest.mark.parametrize("old", ["old line\n", "", None])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, old: str | None) -> None:
    pytest.importorskip("resource", reason="no limits on file sizes on this system")
    path = tmp_path / "f"
    if old is not None:
        path.write_text(old)
    done = subprocess.run([sys.executable, "-c", REPLACE, path], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == str(errno.EFBIG)
    assert (path.read_text() if path.exists() else None) == old
    assert len(os.listdir(tmp_path)) == (old is not None)


def test_what_was_made_for_nothing_goes(tmp_path: Path) -> None:
    GrowingFile(str(tmp_path / "new")).close()
    (tmp_path / "old").touch()
    GrowingFile(str(tmp_path / "old")).close()
    WholeFile(tmp_path / "whole").close()
    assert os.listdir(tmp_path) == ["old"]


def replaced(path: Path) -> None:
    """As editors save."""
    (path.parent / "new").write_bytes(path.read_bytes())
    os.replace(path.parent / "new", path)


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be deleted or replaced there")
@pytest.mark.parametrize("old", [None, "old\n"])
@pytest.mark.parametrize("happens", [Path.unlink, replaced, lambda path: os.truncate(path, 2)])
def test_lines_that_are_lost_are_told(tmp_path: Path, old: str | None, happens: Callable[[Path], None]) -> None:
    path = tmp_path / "a.jsonl"
    if old is not None:
        path.write_text(old)
    for more in ("two\n", ""):
        file = GrowingFile(str(path), replace=old is not None)
        file.write("one\n")
        file.flush()
        happens(path)
        there = path.read_bytes() if path.exists() else None
        file.write(more)
        with pytest.raises(OSError, match="deleted, replaced or cut short") as raised:
            file.close()
        assert raised.value.filename == str(path)
        assert (path.read_bytes() if path.exists() else None) == there
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_text(old)


@pytest.mark.parametrize("old", [None, "old", "o"])
def test_what_somebody_else_writes_meanwhile_is_kept(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "a.json"
    if old is not None:
        path.write_text(old)
    for names in (["a-new.json", "a.json"], ["a-new-new.json", "a-new.json", "a.json"]):
        file = WholeFile(path)
        file.write("ours")
        path.write_text("mine" * len(names))
        with pytest.raises(OSError, match="made or changed by another program") as raised:
            file.close()
        assert (raised.value.errno, raised.value.filename) == (errno.EEXIST, str(path))
        assert path.read_text() == "mine" * len(names)
        assert sorted(os.listdir(tmp_path)) == names
        assert (tmp_path / names[0]).read_text() == "ours"
    file = WholeFile(path)
    file.write("ours")
    path.unlink()
    file.close()
    assert path.read_text() == "ours"


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be replaced there")
def test_what_somebody_else_put_there_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = GrowingFile(str(path))
    replaced(path)
    file.close()
    assert path.exists()


def test_a_line_that_is_mended_meanwhile_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = GrowingFile(str(path))
    file.write("one\nlast\n" + "x" * 5000 + "\n")
    file.flush()
    with path.open("r+") as edited:
        edited.write("two")
    file.write("more\n")
    file.close()
    assert path.read_text() == "two\nlast\n" + "x" * 5000 + "\nmore\n"


@pytest.mark.skipif(os.name != "posix", reason="files have owners of another kind here")
def test_another_users_file_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("theirs")
    like = Path(os.sep)  # of root
    if os.geteuid() == 0:  # who may give files away, and so keeps owners
        os.chown(path, 65534, 65534)
        write_whole(path, b"mended", like=path)
        assert (path.stat().st_uid, path.read_text()) == (65534, "mended")
        path.write_text("theirs")
        monkeypatch.setattr("os.chown", lambda *_: (_ for _ in ()).throw(PermissionError))
        like = path
    with pytest.raises(OSError, match="belongs to another user") as raised:
        write_whole(path, b"ours", like=like)
    assert (raised.value.errno, raised.value.filename) == (errno.EPERM, str(path))
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for replace in (False, True):
        file = GrowingFile(str(tmp_path / "link"), replace)
        file.write(f"{replace}\n")
        file.close()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "True\n"
