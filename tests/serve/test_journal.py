"""What a journal takes back, and what it keeps its hands off."""

from __future__ import annotations

import json
import os
import random
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")

from capcli.files import write_whole
from capcli.serve.journal import Journal, Step, put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def journal(folder: Path, *places: tuple[str, str]) -> Journal:
    return Journal(folder / "corrections.json", places)


def left_by_a_kill(folder: Path, *changes: tuple[str, bytes | None, bytes | None]) -> Path:
    """A journal of changes: names, what the files were, and what they became."""
    path = journal(folder).path
    path.write_text("".join(f"\n{json.dumps(asdict(Step.of(*change)))}\n" for change in changes))
    return path


def test_a_change_is_undone_exactly() -> None:
    draw = random.Random(0)
    contents: list[bytes | None] = [None, b"", b"a", b"aa", b"aaa", b"abc", b"aXbc", b"Xabc", b"abcX", b"ab", b"bc"]
    contents += [bytes(draw.choices(b"ab", k=draw.randrange(9))) for _ in range(30)]
    for was in contents:
        for now in contents:
            assert Step.of("a", was, now).undone(now) == was
    photo = draw.randbytes(100_000)
    assert len(Step.of("a.jpg", photo, photo[:100] + b"caption" + photo[100:]).middle) == 0


def test_a_block_that_raises_changes_nothing(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"mine")
    (folder / "b.txt").write_bytes(b"mine too")
    here = journal(folder)

    def change() -> None:
        for content in (b"one", b"two"):
            write_whole(folder / "a.txt", content)
        write_whole(folder / "new.txt", b"new")
        put(str(folder / "b.txt"), None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), here.changing():
        change()
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == {"a.txt": b"mine", "b.txt": b"mine too"}
    with here.changing():
        write_whole(folder / "a.txt", b"one")
    write_whole(folder / "a.txt", b"two")  # nobody writes it down
    assert here.take_back() == []
    assert (folder / "a.txt").read_bytes() == b"two"


def test_half_a_line_was_no_change(folder: Path) -> None:
    path = left_by_a_kill(folder, ("a.txt", b"mine", b"one"), ("b.txt", b"mine", b"one"))
    path.write_bytes(path.read_bytes()[:-9])
    for name, content in (("a.txt", b"one"), ("b.txt", b"mine")):
        (folder / name).write_bytes(content)
    assert journal(folder).take_back() == []
    assert [(folder / name).read_bytes() for name in ("a.txt", "b.txt")] == [b"mine", b"mine"]
    assert not path.exists()


def test_a_folder_may_have_moved(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"one")
    left_by_a_kill(folder, ("a.txt", b"mine", b"one"))
    elsewhere = folder.rename(folder.with_name("elsewhere"))
    assert journal(elsewhere).take_back() == []
    assert (elsewhere / "a.txt").read_bytes() == b"mine"


def test_a_strangers_journal_reaches_nothing_outside(tmp_path: Path, folder: Path) -> None:
    """Such a file can come in an archive of photos."""
    outside, tree = tmp_path / "outside.txt", tmp_path / "tree"
    tree.mkdir()
    for path in (outside, tree / "a.txt", tree / "profile"):
        path.write_bytes(b"well known")
    (folder / "inside").mkdir()
    try:
        (folder / "link.txt").symlink_to(outside)
    except OSError:
        pytest.skip("no links here")
    changes = [
        (name, b"evil", b"well known") for name in ("../outside.txt", str(outside), "link.txt", "../tree/profile")
    ]
    changes += [("../tree/a.txt", b"earlier", b"well known"), ("inside", b"evil", b"well known")]
    left_by_a_kill(folder, *changes, ("../new.txt", b"evil", None))
    assert len(journal(folder, (str(tree), ".txt")).take_back()) == 4
    assert outside.read_bytes() == (tree / "profile").read_bytes() == b"well known"
    assert (tree / "a.txt").read_bytes() == b"earlier"  # there captions go
    assert not (tmp_path / "new.txt").exists()


@pytest.mark.parametrize(
    "line",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"name": 1}',
        "[" * 100_000,
        '{"name": "a", "was": "-", "now": "-", "head": -1, "tail": 0, "middle": ""}',
    ],
)
def test_what_is_no_journal_changes_nothing(folder: Path, line: str) -> None:
    (folder / "a.txt").write_bytes(b"one")
    path = left_by_a_kill(folder, ("a.txt", b"mine", b"one"))
    path.write_text(f"{line}\n{path.read_text()}{line}\n")
    assert journal(folder).take_back() == []
    assert (folder / "a.txt").read_bytes() == b"mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_journal(folder: Path) -> None:
    os.mkfifo(journal(folder).path)
    with pytest.raises(OSError, match="not a regular file"):
        journal(folder).take_back()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(folder: Path) -> None:
    path = left_by_a_kill(folder, ("a.txt", b"mine", b"one"), ("corrections.json", None, b"[]"))
    (folder / "a.txt").write_bytes(b"one")
    os.mkfifo(folder / "corrections.json")
    with pytest.raises(OSError, match="not a regular file"):
        journal(folder).take_back()
    assert path.exists()  # it can be taken back when the pipe is gone
    (folder / "corrections.json").unlink()
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")
    assert journal(folder).take_back() == [f"{folder / 'a.txt'}: not a file of the folder; left as it is"]
