"""Teaching from the page: `capcli teach` in a process of its own, which outlives the page and the server."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from capcli.captioner import Captioner
from capcli.files import LockedFolder
from capcli.outputs.cache import CaptionCache
from capcli.serve.limits import Refusal

STATE_FILE, LOG_FILE = "teaching.json", "teaching.log"  # the first one is written by `training.teaching.course`
CHOSEN_FILE = "chosen"  # says that the page is to begin with this model
WEIGHTS_FILE = "model.safetensors"
Loaded = tuple[Captioner, CaptionCache | None]


class Teaching:
    """Teach a model what is saved, tell how far that is, and choose between it and the model of before."""

    def __init__(
        self, folder: Path, command: Sequence[str], name: str, load: Callable[[bool], Loaded], chosen: bool = False
    ) -> None:
        """Take over a process that an earlier server began.

        folder: of the taught model, which need not exist.
        command: teaches it, a program with its arguments.
        name: of the model of before, for people.
        load: returns the taught model, True, or the one of before, with the cache of its captions. May raise Refusal.
        chosen: whether the taught model is in use.
        """
        self.folder, self.command, self.name, self.load, self.chosen = folder, command, name, load, chosen
        self.loaded = self.stamp()  # of the model in use
        self.process: subprocess.Popen[bytes] | None = None

    def state(self) -> dict[str, Any]:
        """Return what the page shows: the model in use, and what `course.Course.record` says of the teaching."""
        record, going = self.record(), self.is_going()
        problem = None if going or record is None or record.get("kept") is not None else self.last_words()
        return {
            "model": self.folder.name if self.chosen else self.name,
            "chosen": self.chosen,
            "newer": self.chosen and self.stamp() != self.loaded,
            "ready": (self.folder / WEIGHTS_FILE).is_file(),
            "going": going,
            "record": record,
            "problem": problem,
        }

    def record(self) -> dict[str, Any] | None:
        """Return how far the last teaching has come, None without one."""
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((self.folder / STATE_FILE).read_bytes())
            return record if isinstance(record, dict) else None
        return {} if (self.folder / LOG_FILE).exists() else None

    def is_going(self) -> bool:
        """Return whether somebody teaches the model now: this server, one before it, or a terminal."""
        if self.process is not None and self.process.poll() is None:
            return True
        record = self.record()
        if record is None or record.get("kept") is not None:
            return False
        try:
            LockedFolder(self.folder).close()
        except OSError as error:
            return error.errno == errno.EBUSY
        return False

    def start(self) -> None:
        """Begin to teach. Raises Refusal where that goes on already, and OSError."""
        if self.is_going():
            raise Refusal(409, "the model is being taught already")
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / STATE_FILE).unlink()
        environment = {name: value for name, value in os.environ.items() if name != "CAPCLI_TOKEN"}
        with open(self.folder / LOG_FILE, "wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,  # so that what ends the server does not end this
            )

    def cancel(self) -> None:
        """End teaching; a model that was taught earlier stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        elif self.is_going():  # its number is another program's if the folder is not locked
            number = (self.record() or {}).get("process")
            if type(number) is int:
                with contextlib.suppress(OSError):
                    os.kill(number, signal.SIGTERM)
        for name in (STATE_FILE, LOG_FILE):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()

    def choose(self, taught: bool) -> Loaded:
        """Return the taught model or the one of before, and have the next server begin with it. Raises Refusal."""
        stamp = self.stamp()
        loaded = self.load(taught)
        self.chosen, self.loaded = taught, stamp
        mark = self.folder / CHOSEN_FILE
        with contextlib.suppress(OSError):
            if taught:
                mark.touch()
            else:
                mark.unlink()
        return loaded

    def stamp(self) -> int | None:
        """Return what changes when another model is taught; None without any."""
        with contextlib.suppress(OSError):
            return os.stat(self.folder / WEIGHTS_FILE).st_mtime_ns
        return None

    def last_words(self) -> str:
        """Return why teaching ended early, as far as it said."""
        with contextlib.suppress(OSError):
            lines = (self.folder / LOG_FILE).read_text("utf-8", "replace").split("\n")
            said = [line.removeprefix("capcli: ") for line in lines if line.startswith("capcli: ")]
            if said:
                return said[-1]
        return "teaching ended before it was done"


def is_chosen(folder: Path) -> bool:
    """Return whether the page is to begin with a taught model. folder: of the model."""
    return (folder / CHOSEN_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()
