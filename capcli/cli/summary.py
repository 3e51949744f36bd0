"""What became of each image: named on stderr by --verbose, and kept for --summary."""

from __future__ import annotations

import json
import os
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from capcli.cli.messages import say
from capcli.files import OutputError, write_whole
from capcli.outputs.formats import dump
from capcli.outputs.resume import check_output

KEYS = ("exit_status", "counts", "failures", "skipped")


class Summary:
    """Names the images that were not captioned, with the reasons.

    Images are skipped by the thread that lists them; what is to be said of them waits until `tell`, so that it comes
    between two batches and not into the middle of the progress bar.
    """

    def __init__(self, verbose: bool = False, kept: bool = False) -> None:
        """verbose: say which images are skipped. kept: remember all of them, and those that failed, which takes memory
        for each."""
        self.verbose, self.kept = verbose, kept
        self.failures: list[dict[str, str]] = []
        self.skipped: list[dict[str, str]] = []
        self.untold: SimpleQueue[str] = SimpleQueue()

    def skip(self, path: str, reason: str) -> None:
        """Take note of an image that is not to be captioned; from any thread."""
        if self.kept:
            self.skipped.append({"path": path, "reason": reason})
        if self.verbose:
            self.untold.put(f"{path}: skipped: {reason}")

    def fail(self, path: str, reason: str) -> None:
        """Take note of an image that could not be captioned, or whose caption could not be kept."""
        if self.kept:
            self.failures.append({"path": path, "error": reason})

    def tell(self) -> None:
        """Say what has not been said yet."""
        while True:
            try:
                say(self.untold.get_nowait())
            except Empty:
                return

    def as_json(self, counts: dict[str, int], status: int) -> dict[str, Any]:
        """Return `{"exit_status", "counts", "failures": [{"path", "error"}], "skipped": [{"path", "reason"}]}`."""
        return dict(zip(KEYS, (status, counts, self.failures, self.skipped), strict=True))


def check_summary(path: Path | None) -> None:
    """Raise OutputError where no summary can be written, or something else than an earlier one would be lost.

    That of the run before may go: runs are gone on with by the same command.
    """
    if path is None:
        return
    check_output(path, overwrite=True)
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise OutputError(path, error) from None
    except ValueError:
        found = None
    if not isinstance(found, dict) or tuple(found) != KEYS:
        raise OutputError(path, "exists and is not a capcli summary; name another file")


def write_summary(path: Path, content: dict[str, Any]) -> None:
    """Write it whole, but to a pipe or a device. Raises OutputError."""
    text = (dump(content, indent=1) + "\n").encode()
    place = Path(os.path.realpath(path))
    try:
        if place.is_file() or not place.exists():
            write_whole(place, text)
        else:
            place.write_bytes(text)
    except OSError as error:
        raise OutputError(path, error) from None
