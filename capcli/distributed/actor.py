"""A cluster process: it captions a block and writes its file. Knows nothing of Ray."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import capcli
from capcli.captioner import Captioner
from capcli.distributed.blocks import Block
from capcli.distributed.output import name_of_part
from capcli.distributed.reach import Reach
from capcli.distributed.table import captioned
from capcli.images.decode import why_unreadable
from capcli.outputs.parquet import as_bytes
from capcli.outputs.rows import as_row
from capcli.results import ImageError

if TYPE_CHECKING:
    import pyarrow

    from capcli.decoding.options import DecodingOptions


@dataclass(frozen=True)
class Orders:
    """Say how to caption, and where to write.

    output: folder, the same on every machine.
    reach: where to find images.
    version: of the capcli that gives the orders.
    model, device, precision, engine: as in `Captioner.load`.
    num, options, batch_size, max_pixels: as in `Captioner.stream`.
    prepare: sets up the process first.
    """

    output: str
    reach: Reach
    version: str
    model: str | None = None
    device: str = "cpu"
    precision: str = "auto"
    engine: str = "auto"
    num: int = 1
    options: DecodingOptions | None = None
    batch_size: int = 32
    max_pixels: int | None = None
    prepare: Callable[[], object] | None = None


@dataclass
class Report:
    """Say what became of a block.

    rows: how many were written.
    unsure: how many captions are.
    failures: path, reason and kind for each failed image.
    trouble: why this block failed, as all others would; empty if it did not.
    """

    number: int
    rows: int = 0
    unsure: int = 0
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    trouble: str = ""


class Actor:
    """Caption blocks one by one, and report errors: Ray would hide an exception's reason."""

    def __init__(self, orders: Orders) -> None:
        self.orders, self.trouble = orders, ""
        try:
            if orders.version != capcli.__version__:
                raise ValueError(f"has capcli {capcli.__version__}, not {orders.version}")
            if orders.prepare is not None:
                orders.prepare()
            self.captioner = Captioner.load(orders.model, orders.device, orders.precision, engine=orders.engine)
            if self.captioner.device == "cpu":
                self.captioner.engine.threads = 1  # an actor has one core
        except Exception as error:
            self.trouble = described(error)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Return pickled reports for pickled blocks, which Ray's own idea of tables cannot alter."""
        import pyarrow

        reports = [self.caption(pickle.loads(block)) for block in table["block"].to_pylist()]
        return pyarrow.table({"report": pyarrow.array(map(pickle.dumps, reports), pyarrow.binary())})

    def caption(self, block: Block) -> Report:
        """Caption a block and write its file; a block without images gets none."""
        if self.trouble:
            return Report(block.number, trouble=self.trouble)
        report = Report(block.number)
        try:
            rows = self.rows(block, report)
            if rows:
                write(os.path.join(self.orders.output, name_of_part(block.number)), captioned(rows, block.others()))
        except Exception as error:
            return Report(block.number, trouble=described(error))
        report.rows = len(rows)
        return report

    def rows(self, block: Block, report: Report) -> list[dict[str, Any]]:
        """Return a block's rows, and count them in the report."""
        orders, paths = self.orders, []

        def sources() -> Any:
            for path, source in block.images(orders.reach):
                paths.append(path)
                yield source

        rows = []
        results = self.captioner.stream(sources(), orders.num, orders.options, orders.batch_size, orders.max_pixels)
        for index, result in enumerate(results):  # in the order of the images
            path = paths[index]
            rows.append(as_row(result, orders.num) | {"path": path})
            if isinstance(result, ImageError):
                report.failures.append((path, result.reason, result.kind))
            else:
                report.unsure += result.unsure
        return rows


def write(path: str, table: pyarrow.Table) -> None:
    """Write a file whole or not at all, replacing that of a dead actor for the same block.

    Not with `write_whole`: its locks may cover one machine only, or be a lost machine's.

    path: absolute.

    Raises OSError.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}-{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(as_bytes(table))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise OSError(error.errno, error.strerror, path) from None


def described(error: Exception) -> str:
    """Return an error on this machine, in one line."""
    reason = why_unreadable(error)
    if isinstance(error, OSError) and error.filename:
        reason = f"{os.fsdecode(error.filename)}: {reason}"
    elif not isinstance(error, (OSError, ValueError, ImportError)) and type(error).__module__ == "builtins":
        reason = f"a bug in capcli: {type(error).__name__}: {reason}"
    return f"machine {socket.gethostname()}: {reason}"
