"""The page of teaching: the loss of each pass over the photos, captions before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from capcli.training.data.datasets import Photo
from capcli.training.watching.charts import Chart, Line
from capcli.training.watching.watching import News, Said, Sentence, Shown, Table

NOTE = (
    "A pass shows all photos once. Before the checkpoint is taught all of them, it is tried: taught two thirds of the "
    "photos at a time, and held against the rest. The loss of photos held out may rise again; all passes are made "
    "nevertheless, since names and manners of speaking are learnt late. In the end, where that describes photos held "
    "out as well, only a part of what was learnt is kept, new words apart; captions are shown with that part."
)


@dataclass
class Course:
    """Hold the progress of teaching.

    passes: over the photos, in trial as in teaching.
    tried: per trial pass, the loss of taught photos and, if measured, of those held out.
    taught: the loss per teaching pass.
    gain: CIDEr-D of photos held out in turn, before and after.
    shown: some photos, with captions after and before.
    held_out: whether these were.
    seconds: taken in all, once done.
    """

    name: str
    passes: int
    tried: list[tuple[float, float | None]] = field(default_factory=list)
    taught: list[float] = field(default_factory=list)
    gain: tuple[float, float] | None = None
    shown: list[Shown] = field(default_factory=list)
    held_out: bool = True
    seconds: float | None = None

    def show(self, photos: Sequence[Photo], before: list[Sentence], after: list[Sentence]) -> None:
        """Set the photos to show, with captions before and after."""
        self.shown = [
            Shown(photo, [Said("after", later), Said("before", earlier)])
            for photo, earlier, later in zip(photos, before, after, strict=True)
        ]

    def status(self) -> str:
        """Return the progress in a line."""
        if self.seconds is not None:
            parts = [f"taught in {self.seconds:.0f} s"]
        elif self.taught or self.gain:
            parts = [f"teaching: pass {len(self.taught)} of {self.passes} is over"]
        else:
            parts = [f"trying it on photos held out: pass {len(self.tried)} of {self.passes} is over"]
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
