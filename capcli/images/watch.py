"""Watching folders: images that are there, then those that come, each once it is complete.

Whether something changed is heard from watchfiles; what changed is found by looking through folders as any run does.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from capcli.results import ImageError

REST = 2.0  # seconds without a change of size or time after which a file is complete
TICK = 1.0  # seconds between looks at files that are not
RESCAN = 60.0  # seconds between looks through folders of which nothing is heard, as of those on other machines

Stamp = tuple[int, ...]


class Arrivals:
    """Give images as they arrive.

    known: files that were given, as they were.
    """

    def __init__(
        self,
        scan: Callable[[], Iterable[str | ImageError]],
        wakes: Iterable[bool],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        scan: lists all images that are there.
        wakes: gives, about every TICK, whether something may have changed.
        clock: seconds since 1970.
        """
        self.scan, self.wakes, self.clock = scan, wakes, clock
        self.known: dict[str, Stamp] = {}
        self.resting: dict[str, tuple[Stamp, float]] = {}  # since when
        self.told: set[tuple[str, str]] = set()  # what could not be listed

    def __iter__(self) -> Iterator[str | ImageError]:
        """Yield images that are complete, again when their files have changed, and ImageErrors of folders, once."""
        yield from self.look_through(first=True)
        looked = self.clock()
        for changed in self.wakes:
            if changed or self.clock() - looked >= RESCAN:
                yield from self.look_through()
                looked = self.clock()
            yield from self.complete()

    def look_through(self, first: bool = False) -> Iterator[str | ImageError]:
        """Note what is new, forget what is gone, and yield what needs no rest.

        first: whether a file's own times may show that it has been at rest. Later ones may be copies that keep the
            time of the original before they are complete.
        """
        there: set[str] = set()
        told: set[tuple[str, str]] = set()
        for image in self.scan():
            if isinstance(image, ImageError):
                told.add((image.path, image.reason))
                if (image.path, image.reason) not in self.told and (first or os.path.lexists(image.path)):
                    yield image
                continue
            there.add(image)
            stamp, now = stamp_of(image), self.clock()
            if stamp == self.known.get(image):
                self.resting.pop(image, None)
            elif first and changed_at(image) < now - REST:
                self.known[image] = stamp
                yield image
            elif self.resting.get(image, ((), 0.0))[0] != stamp:
                self.resting[image] = stamp, now
        self.told = told
        self.known = {image: stamp for image, stamp in self.known.items() if image in there}
        self.resting = {image: since for image, since in self.resting.items() if image in there}

    def complete(self) -> Iterator[str]:
        """Yield the files that have been at rest for long enough."""
        for image, (stamp, since) in list(self.resting.items()):
            now = self.clock()
            if now - since < REST:
                continue
            current = stamp_of(image)
            if current == self.known.get(image):  # we wrote into it
                del self.resting[image]
            elif stamp == current:
                del self.resting[image]
                self.known[image] = stamp
                yield image
            elif current:
                self.resting[image] = current, now
            else:  # gone; if it comes back, a look through the folders finds it
                del self.resting[image]

    def written(self, image: str) -> None:
        """Note that an image's change is our own: its caption was written into it."""
        if image in self.known and (stamp := stamp_of(image)):
            self.known[image] = stamp


def stamp_of(path: str) -> Stamp:
    """Return a file's identity, size and time; nothing if it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def changed_at(path: str) -> float:
    """Return when a file was last changed or renamed, in seconds since 1970; now if it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return time.time()
    return max(status.st_mtime, status.st_ctime)


class Watch:
    """Wait for images in folders, which may vanish and come back, until stopped."""

    def __init__(self, folders: list[str], recursive: bool) -> None:
        """Prepare. recursive: whether subfolders count. Raises ImportError without watchfiles."""
        import watchfiles

        self.watch = watchfiles.watch
        self.folders, self.recursive = folders, recursive
        self.stopped = threading.Event()
        self.found: Arrivals | None = None

    def arrivals(self, scan: Callable[[], Iterable[str | ImageError]]) -> Iterator[str | ImageError]:
        """Yield images as they arrive. scan: lists all that are there."""
        self.found = Arrivals(scan, self.wakes())
        return iter(self.found)

    def written(self, image: str) -> None:
        """Note that a caption was written for an image, and perhaps into it."""
        if self.found:
            self.found.written(image)

    def stop(self) -> None:
        """End the arrivals soon. Safe in a signal's handler."""
        self.stopped.set()

    def wakes(self) -> Iterator[bool]:
        """Yield whether anything may have changed, about every TICK until stopped."""
        while not self.stopped.is_set():
            there = identities(self.folders)
            try:
                for changed in self.changes(there):
                    yield changed
                    if identities(self.folders) != there:
                        break
            except OSError:  # one vanished, or the system watches no more folders: then they are looked through
                self.stopped.wait(TICK)
            if not self.stopped.is_set():
                yield True

    def changes(self, there: Iterable[str]) -> Iterator[bool]:
        """Yield whether anything has changed in folders, about every TICK; end soon if there are none."""
        if not there:
            self.stopped.wait(TICK)
            return
        for changes in self.watch(
            *there,
            watch_filter=None,
            stop_event=self.stopped,
            rust_timeout=int(TICK * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=self.recursive,
            ignore_permission_denied=True,
        ):
            yield bool(changes)


def identities(folders: list[str]) -> dict[str, Stamp]:
    """Return which of the folders are there, with what tells each from its successor."""
    found = {}
    for folder in folders:
        if os.path.isdir(folder) and (stamp := stamp_of(folder)):
            found[folder] = stamp[:2]
    return found
