"""What became of each image, printed on stderr for --verbose and kept for --summary."""

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
    """Collect uncaptioned images, with reasons.

    Lines about skipped images wait for `tell`, which prints between batches, clear of the progress bar.
    """

    def __init__(self, verbose: bool = False, kept: bool = False) -> None:
        """Begin empty.

        verbose: print a line for each skipped image.
        kept: remember skipped and failed images, which takes memory for each.
        """
        self.verbose, self.kept = verbose, kept
        self.failures: list[dict[str, str]] = []
        self.skipped: list[dict[str, str]] = []
        self.untold: SimpleQueue[str] = SimpleQueue()

    def skip(self, path: str, reason: str) -> None:
        """Note an image that needs no captioning. Safe in any thread."""
        if self.kept:
            self.skipped.append({"path": path, "reason": reason})
        if self.verbose:
            self.note(f"{path}: skipped: {reason}")

    def note(self, line: str) -> None:
        """Queue a line for the next `tell`. Safe in any thread."""
        self.untold.put(line)

    def fail(self, path: str, reason: str) -> None:
        """Note an image whose caption could not be made or written."""
        if self.kept:
            self.failures.append({"path": path, "error": reason})

    def tell(self) -> None:
        while True:
            try:
                say(self.untold.get_nowait())
            except Empty:
                return

    def as_json(self, counts: dict[str, int], status: int) -> dict[str, Any]:
        """Return `{"exit_status", "counts", "failures": [{"path", "error"}], "skipped": [{"path", "reason"}]}`.

        counts: from `Run.counts`.
        status: the exit status.
        """
        return dict(zip(KEYS, (status, counts, self.failures, self.skipped), strict=True))


def check_summary(path: Path | None) -> None:
    """Raise OutputError if a summary cannot be written, or would replace anything but an earlier one.

    An earlier one is replaced, since the same command continues a run.
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
    """Write a summary, whole or not at all, except to a pipe or device.

    content: from `Summary.as_json`.

    Raises OutputError.
    """
    text = (dump(content, indent=1) + "\n").encode()
    place = Path(os.path.realpath(path))
    try:
        if place.is_file() or not place.exists():
            write_whole(place, text, like=place if place.is_file() else None)
        else:
            place.write_bytes(text)
    except OSError as error:
        raise OutputError(path, error) from None
