"""Saves and undos that are killed at every point: all of it was done, or nothing, and no text is lost or doubled."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra serve")
if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

from serving import open_album, said, save, sinks

from capcli.locks import TEMPORARY
from capcli.outputs.metadata import read_caption
from capcli.serve.album import Album

pytestmark = pytest.mark.slow

CALLS = {"open", "write", "flush", "replace", "unlink"}  # that change what others can see
EACH = 1 if os.environ.get("CAPCLI_FULL_TESTS") else 4  # one call in this many
State = dict[str, bytes]


def state(folder: Path) -> State:
    return {each.name: each.read_bytes() for each in folder.iterdir() if not TEMPORARY.fullmatch(each.name)}


def killed(before: Callable[[], Album], action: Callable[[Album], object], calls: int) -> tuple[bool, bool]:
    """Do something in another process, which is killed when it has made some calls.

    before: what comes before it, unharmed.

    Returns whether it was killed, and whether it had ended what it was to do.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(ours)
            left = calls

            def count(frame: object, event: str, function: object) -> None:
                nonlocal left
                if event == "c_call" and getattr(function, "__name__", "") in CALLS:
                    left -= 1
                    if left < 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            album = before()
            sys.setprofile(count)
            action(album)
            sys.setprofile(None)
            os.write(theirs, b"\n")
        finally:
            os._exit(0)
    os.close(theirs)
    _, status = os.waitpid(child, 0)
    confirmed = os.read(ours, 1) == b"\n"
    os.close(ours)
    return os.WIFSIGNALED(status), confirmed


def undo(album: Album) -> None:
    undone = album.undo(max(album.saves.kept))
    assert undone is not None
    assert undone.problems == []


def put(*texts: str) -> Callable[[Album], None]:
    def saves(album: Album) -> None:
        for text in texts:
            assert save(album, 0, text).problems == []

    return saves


def bulk(album: Album) -> None:
    assert album.save([(photo, album.tag(photo), "new") for photo in album.photos]).problems == []


@pytest.mark.parametrize(
    ("existing", "earlier", "before", "action"),
    [
        ("skip", [], [], put("new")),
        ("skip", ["zero"], [put("one")], put("new")),
        ("overwrite", ["zero"], [], bulk),
        ("append", [], [put("one")], put("new")),
        ("append", [], [put("one"), bulk], undo),
        ("prepend", [], [put("one"), put("two"), undo], undo),
    ],
)
def test_a_kill_at_any_point(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existing: str,
    earlier: list[str],
    before: list[Callable[[Album], None]],
    action: Callable[[Album], None],
) -> None:
    """In sidecars, XMP and metadata at once. Now and then what takes it back is killed as well."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what a killed process wrote is there without waiting
    source = tmp_path / "source"
    open_album(source, number=2).close()
    mine = existing != "skip"
    if mine:
        (source / "photo0.txt").write_text("mine!\n")
        for sink in sinks("mx", "overwrite"):
            sink.write(said(str(source / "photo0.jpg"), "mine"))
    (source / "corrections.json").write_text('[ {"file_path":"gone.jpg", "captions":["mine"]} ]')
    for text in earlier:  # of another run
        album = open_album(source, "sxm", existing, 2)
        put(text)(album)
        album.close()

    def prepared(folder: Path) -> Album:
        album = open_album(folder, "sxm", existing, 2)
        for each in before:
            each(album)
        return album

    def check(folder: Path, *texts: str) -> None:
        for there in (read_caption(str(folder / "photo0.jpg")), (folder / "photo0.txt").read_text()):
            there = there.lower()  # one that is put behind a sentence becomes one
            assert existing not in ("append", "prepend") or there.count("mine!") == 1
            assert all(there.count(f"{text}!") <= 1 for text in ("zero", "one", "two", "new", "next"))
            assert all(there.count(f"{text}!") == 1 for text in texts)

    whole = shutil.copytree(source, tmp_path / "whole")
    album = prepared(whole)
    states = [state(whole)]
    action(album)
    states.append(state(whole))
    album.close()
    assert states[0] != states[1]
    for number, each in enumerate(states):  # from either of them it goes on
        folder = tmp_path / f"next{number}"
        folder.mkdir()
        for name, content in each.items():
            (folder / name).write_bytes(content)
        album = open_album(folder, "sxm", existing, 2)
        put("next")(album)
        check(folder, "next")
        album.close()

    draw = random.Random(f"{existing} {earlier}")
    reached = set()
    for point in range(draw.randrange(EACH), 1000, EACH):
        folder = shutil.copytree(source, tmp_path / str(point))
        was_killed, confirmed = killed(lambda: prepared(folder), action, point)  # noqa: B023 (called at once)
        if was_killed and draw.random() < 0.25:
            again = lambda _: open_album(folder, "sxm", existing, 2)  # noqa: B023, E731
            killed(lambda: album, again, draw.randrange(30))  # noqa: B023
        album = open_album(folder, "sxm", existing, 2)
        assert album.corrections.left == []
        album.close()
        now = state(folder)
        assert now == states[1] if confirmed else now in states, point
        if not was_killed:
            break
        reached.add(states.index(now))
        shutil.rmtree(folder)
    assert confirmed
    assert point > 40
    assert 0 in reached
