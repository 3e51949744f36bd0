import errno
import os
import subprocess
import sys
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
    file = GrowingFile(str(tmp_path / "a.jsonl"), append=False)
    file.write("one\n")
    file.write("t\udcffwo\n")
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    file.flush()
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\nt\xffwo\n"
    file.close()
    again = GrowingFile(str(tmp_path / "a.jsonl"), append=True)
    again.write("three\n")
    again.close()
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\nt\xffwo\nthree\n"


FILL = """
import resource, signal, sys
from capcli.files import GrowingFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = GrowingFile(sys.argv[1], append=False)
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
