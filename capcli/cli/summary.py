"""What became of each image: printed on stderr for --verbose, and kept for --summary."""

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
    """Collect the images that were not captioned, with the reasons.

    Images are skipped in the thread that lists them; lines about them wait for `tell`, so that they are printed between
    two batches instead of in the middle of the progress bar.
    """

    def __init__(self, verbose: bool = False, kept: bool = False) -> None:
        """Begin without any.

        verbose: whether to print a line for each image that is skipped.
        kept: whether to remember the images that are skipped or fail, which takes memory for each.
        """
        self.verbose, self.kept = verbose, kept
        self.failures: list[dict[str, str]] = []
        self.skipped: list[dict[str, str]] = []
        self.untold: SimpleQueue[str] = SimpleQueue()

    def skip(self, path: str, reason: str) -> None:
        """Note an image that needs no captioning; may be called in any thread."""
        if self.kept:
            self.skipped.append({"path": path, "reason": reason})
        if self.verbose:
            self.note(f"{path}: skipped: {reason}")

    def note(self, line: str) -> None:
        """Have a line printed by the next `tell`; may be called in any thread."""
        self.untold.put(line)

    def fail(self, path: str, reason: str) -> None:
        """Note an image that could not be captioned, or whose caption could not be written."""
        if self.kept:
            self.failures.append({"path": path, "error": reason})

    def tell(self) -> None:
        """Print the lines that are waiting."""
        while True:
            try:
                say(self.untold.get_nowait())
            except Empty:
                return

    def as_json(self, counts: dict[str, int], status: int) -> dict[str, Any]:
        """Return `{"exit_status", "counts", "failures": [{"path", "error"}], "skipped": [{"path", "reason"}]}`.

        counts: as `Run.counts` returns them.
        status: the exit status.
        """
        return dict(zip(KEYS, (status, counts, self.failures, self.skipped), strict=True))


def check_summary(path: Path | None) -> None:
    """Raise OutputError if no summary can be written, or if it would replace anything but an earlier summary.

    An earlier one may be replaced, since the same command continues a run.

    path: of the file; None for no summary.
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
    """Write a summary, completely or not at all unless to a pipe or a device.

    path: of the file.
    content: as `Summary.as_json` returns it.

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
