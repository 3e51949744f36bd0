"""The page of teaching: the loss of each pass over the photos, captions before and after."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from capcli.files import write_whole
from capcli.training.data.datasets import Photo
from capcli.training.watching.charts import Chart, Line
from capcli.training.watching.watching import CaptionedPhoto, News, Said, Sentence, Table, Watcher

STATE_FILE = "teaching.json"
NOTHING_KEPT = "photos held out in turn are described worse than before, so nothing of it is kept"
NOTE = (
    "A pass shows all photos once. Before the checkpoint is taught all of them, it is tried: taught two thirds of the "
    "photos at a time, and held against the rest. The loss of photos held out may rise again; all passes are made "
    "nevertheless, since names and manners of speaking are learnt late. In the end, where that describes photos held "
    "out as well, only a part of what was learnt is kept, new words apart; captions are shown with that part."
)


@dataclass
class Course:
    """Hold the progress of teaching.

    passes: over the photos; 0 until they are encoded.
    tried: per trial pass, the loss of taught photos and, if measured, of those held out.
    taught: the loss per teaching pass.
    gain: CIDEr-D of photos held out in turn, before and after.
    shown: some photos, with captions after and before.
    held_out: whether these were.
    kept: whether there is a new checkpoint, once that is known.
    seconds: taken in all, once done.
    """

    name: str
    passes: int = 0
    tried: list[tuple[float, float | None]] = field(default_factory=list)
    taught: list[float] = field(default_factory=list)
    gain: tuple[float, float] | None = None
    shown: list[CaptionedPhoto] = field(default_factory=list)
    held_out: bool = True
    kept: bool | None = None
    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)
    first: float | None = None

    def tell(self, watcher: Watcher) -> None:
        """Write the page, and STATE_FILE beside it for programs."""
        watcher.write(self.news())
        with contextlib.suppress(OSError):  # the page's writer has told
            write_whole(watcher.path.with_name(STATE_FILE), json.dumps(self.record()).encode(), durable=False)

    def record(self) -> dict[str, Any]:
        """Return the state for programs.

        `process` is its number, `pass` of `passes` are over, `seconds_left` is an estimate or null, `gain` the two
        scores, `examples` have `photo`, `before`, `after` and `yours`, and `kept` is null until that is known.
        """
        done, now = len(self.taught), time.monotonic()
        if done and self.first is None:
            self.first = now
        left = None
        if self.first is not None and done > 1 and self.kept is None:
            left = round((now - self.first) / (done - 1) * (self.passes - done))
        return {
            "process": os.getpid(),
            "pass": done,
            "passes": self.passes,
            "seconds_left": left,
            "gain": self.gain,
            "held_out": self.held_out,
            "kept": self.kept if self.seconds is not None else None,
            "examples": [
                {
                    "photo": str(each.photo.path),
                    **{said.label: said.sentence["text"] for said in each.said},
                    "yours": each.photo.captions[0],
                }
                for each in self.shown
            ],
        }

    def show(self, photos: Sequence[Photo], before: list[Sentence], after: list[Sentence]) -> None:
        """Set the photos to show, with captions before and after."""
        self.shown = [
            CaptionedPhoto(photo, [Said("after", later), Said("before", earlier)])
            for photo, earlier, later in zip(photos, before, after, strict=True)
        ]

    def status(self) -> str:
        """Return the progress in a line."""
        if self.kept is False:
            parts = [NOTHING_KEPT]
        elif self.seconds is not None:
            parts = [f"taught in {self.seconds:.0f} s"]
        elif self.tried and not (self.taught or self.gain):
            parts = [f"trying it on photos held out: pass {len(self.tried)} of {self.passes} is over"]
        elif self.passes:
            parts = [f"teaching: pass {len(self.taught)} of {self.passes} is over"]
        else:
            parts = ["looking at the photos"]
        if self.gain:
            parts.append("CIDEr-D of photos held out {:.1f} before, {:.1f} after".format(*self.gain))
        return "; ".join(parts)

    def news(self) -> News:
        """Return the page's content."""
        charts = []
        if self.tried:
            taught = [(number, loss) for number, (loss, _) in enumerate(self.tried, 1)]
            held_out = [(number, loss) for number, (_, loss) in enumerate(self.tried, 1) if loss is not None]
            lines = [Line("taught", taught), Line("held out", held_out)]
            charts.append(Chart("Loss on trial", "pass", self.passes, lines))
        if self.taught:
            lines = [Line("all photos", [*enumerate(self.taught, 1)])]
            charts.append(Chart("Loss in teaching", "pass", self.passes, lines))
        rows = zip_longest(self.tried, self.taught)
        return News(
            name=self.name,
            status=self.status(),
            going=self.seconds is None,
            charts=charts,
            note=NOTE,
            table=Table(
                ["pass", "trial/taught", "trial/held out", "teaching/all photos"],
                [(number, *(tried or (None, None)), taught) for number, (tried, taught) in enumerate(rows, 1)],
            ),
            shown=self.shown,
            what="Some photos held out in turn" if self.held_out else "Some photos that were taught",
            person="you",
        )
