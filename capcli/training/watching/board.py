"""TensorBoard event files, beside the page and with its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

BOARD_FOLDER = "tensorboard"


class Board:
    """Write a run's figures as scalars, into a new event file each time the run begins or resumes.

    It holds all figures, earlier ones too, and makes TensorBoard forget the old files.
    """

    def __init__(self, folder: Path) -> None:
        """Begin a file. folder: the run's. Raises OSError."""
        self.writer = SummaryWriter(str(folder / BOARD_FOLDER), purge_step=0)
        self.written: set[tuple[str, float]] = set()

    def write(self, names: Sequence[str], rows: Sequence[Sequence[float | None]]) -> None:
        """Write new figures. Raises OSError, after which nothing more can be written.

        names: of columns, the step's first.
        rows: as in `watching.Table`.
        """
        for step, *values in rows:
            for name, value in zip(names[1:], values, strict=True):
                if value is not None and step is not None and (name, step) not in self.written:
                    self.writer.add_scalar(name, value, int(step))
                    self.written.add((name, step))
        self.writer.flush()
