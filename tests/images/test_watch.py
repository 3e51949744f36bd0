"""Images as they arrive: an hour of a folder's life, by a clock of its own, and folders that vanish and come back."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from capcli.images.find import find_images
from capcli.images.watch import RESCAN, REST, TICK, Arrivals, Watch
from capcli.results import ImageError

START = 2_000_000_000.0  # later than the times of the files made here


class Life:
    """Run Arrivals on a folder, a tick of a clock at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.ticks = folder, START, 0
        self.given: list[str | ImageError] = []

    def scan(self) -> Iterator[str | ImageError]:
        return find_images([str(self.folder)])

    def live(self, days: Iterator[bool]) -> Arrivals:
        """Take what arrives. days: does something to the folder before each tick, and says whether it is heard of."""

        def wakes() -> Iterator[bool]:
            for heard in days:
                self.now += TICK
                yield heard

        arrivals = Arrivals(self.scan, wakes(), lambda: self.now)
        for image in arrivals:
            self.given.append(image)
            if isinstance(image, str):
                arrivals.written(image)
        return arrivals

    @property
    def names(self) -> list[str]:
        return [os.path.basename(image) for image in self.given if isinstance(image, str)]


def write(path: Path, content: bytes, mode: str = "wb") -> None:
    with open(path, mode) as file:
        file.write(content)


def test_a_file_is_given_once_it_is_at_rest(tmp_path: Path) -> None:
    (tmp_path / "there.jpg").write_bytes(b"a")
    life = Life(tmp_path)

    def days() -> Iterator[bool]:
        for _ in range(5):  # in pieces, a second between them
            write(tmp_path / "new.jpg", b"piece", "ab")
            yield True
            assert life.names == ["there.jpg"]
        for _ in range(int(REST / TICK) + 1):
            yield False
        assert life.names == ["there.jpg", "new.jpg"]
        yield True
        (tmp_path / "new.jpg").rename(tmp_path / "renamed.jpg")
        yield True
        write(tmp_path / "there.jpg", b"another")
        yield True
        (tmp_path / "renamed.jpg").unlink()  # before it was at rest
        for _ in range(4):
            yield True

    arrivals = life.live(days())
    assert life.names == ["there.jpg", "new.jpg", "there.jpg"]
    assert [os.path.basename(image) for image in arrivals.known] == ["there.jpg"]
    assert not arrivals.resting


def test_what_capcli_writes_into_an_image_does_not_bring_it_back(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"a")
    life = Life(tmp_path)

    def wakes() -> Iterator[bool]:
        for _ in range(8):
            life.now += TICK
            yield True

    arrivals = Arrivals(life.scan, wakes(), lambda: life.now)
    given = []
    for image in arrivals:
        given.append(image)
        write(photo, b"with its caption")
        [*arrivals.look_through()]  # another look, before the caption is known to be written
        arrivals.written(str(photo))
    assert given == [str(photo)]


def test_folders_that_are_not_heard_of_are_looked_through_now_and_then(tmp_path: Path) -> None:
    life = Life(tmp_path)

    def days() -> Iterator[bool]:
        yield False
        write(tmp_path / "a.jpg", b"a")
        for _ in range(int((RESCAN + REST) / TICK) + 2):
            yield False

    life.live(days())
    assert life.names == ["a.jpg"]


def test_a_folder_that_vanishes_and_comes_back(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"a")
    life = Life(photos)

    def days() -> Iterator[bool]:
        yield True
        photos.rename(tmp_path / "away")
        yield True
        (tmp_path / "away").rename(photos)
        write(photos / "b.jpg", b"b")
        for _ in range(5):
            yield True

    life.live(days())
    assert life.names == ["a.jpg", "a.jpg", "b.jpg"]  # the cache, or the sidecar, has the first one's caption
    assert not any(isinstance(image, ImageError) for image in life.given)


def test_an_hour_of_500_files(tmp_path: Path) -> None:
    """Written in pieces, renamed while that goes on, replaced: each content is given once it is whole, and once."""
    rng, life = random.Random(1), Life(tmp_path)
    contents = {f"photo{i}.jpg": rng.randbytes(rng.randrange(20, 200)) for i in range(500)}
    given: Counter[bytes] = Counter()

    def days() -> Iterator[bool]:
        waiting, open_ = list(contents), {}
        replaced = 0
        for _ in range(3600):
            for _ in range(rng.choice((0, 0, 0, 1)) if waiting else 0):
                name = waiting.pop()
                open_[name] = tmp_path / f"part-{name}" if rng.random() < 0.3 else tmp_path / name, 0
            changed = bool(open_)
            for name, (path, written) in list(open_.items()):
                piece = contents[name][written : written + rng.randrange(10, 60)]
                write(path, piece, "ab")
                os.utime(path, (life.now, life.now))
                open_[name] = path, written + len(piece)
                if open_[name][1] == len(contents[name]):
                    del open_[name]
                    path.rename(tmp_path / name)
                    if rng.random() < 0.1 and len(waiting) > 5:
                        other = waiting.pop()  # at once, before the first is given
                        write(tmp_path / f".{other}", contents[other])
                        os.replace(tmp_path / f".{other}", tmp_path / name)
                        del contents[name]
                        replaced += 1
            yield changed
        assert not waiting
        assert replaced > 10

    def wakes() -> Iterator[bool]:
        for heard in days():
            life.now += TICK
            yield heard

    for image in Arrivals(life.scan, wakes(), lambda: life.now):
        assert isinstance(image, str)
        given[Path(image).read_bytes()] += 1
    assert given == Counter(contents.values())


def test_wakes_are_heard_and_end(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason="no watchfiles")
    folder = tmp_path / "photos"
    folder.mkdir()
    watch = Watch([str(folder)], True)
    wakes = watch.wakes()
    assert not next(wakes)  # nothing happens
    (folder / "a.jpg").write_bytes(b"a")
    assert any(next(wakes) for _ in range(60))
    shutil.rmtree(folder)
    assert any(next(wakes) for _ in range(60))
    threading.Timer(0, folder.mkdir).start()
    while not folder.exists():
        next(wakes)
    next(wakes)
    (folder / "b.jpg").write_bytes(b"b")
    assert any(next(wakes) for _ in range(60))
    watch.stop()
    assert len([*wakes]) < 3
