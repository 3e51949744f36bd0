"""Listing what to caption: arguments into blocks, less what earlier runs have done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcli.distributed.blocks import Block, Embedded, Listed, Shard
from capcli.distributed.manifest import Manifest, ManifestError
from capcli.distributed.output import Done, captions_in
from capcli.distributed.reach import Reach, protocol_of
from capcli.distributed.table import keys_of
from capcli.outputs.parquet import NO_NAME
from capcli.outputs.rows import is_encodable
from capcli.results import ImageError

if TYPE_CHECKING:
    import pyarrow

SHARD_ENDINGS = (".tar", ".tar.gz", ".tgz")
BLOCK_ROWS = 1000  # images handed out at a time: the most that a lost process costs


@dataclass
class Listing:
    """Collect blocks of images to caption.

    done: by earlier runs.
    retry: whether to retry their failures.
    block_rows: images in a block; those of a shard, or encoded, stay together as in their files.
    number: of the next block.
    rows: images in the blocks, except those of unread shards.
    skipped: images and shards already done.
    failures: what cannot be listed.
    protocols: of the URLs.
    others: the other columns, as pyarrow's schema; None for nothing but shards.
    """

    reach: Reach
    done: Done
    retry: bool
    block_rows: int
    number: int
    blocks: list[Block] = field(default_factory=list)
    rows: int = 0
    skipped: int = 0
    failures: list[ImageError] = field(default_factory=list)
    protocols: set[str] = field(default_factory=set)
    others: Any = None
    seen: set[bytes] = field(default_factory=set)
    pending: list[Any] = field(default_factory=list)

    def add_paths(self, images: Iterable[str | ImageError]) -> None:
        import pyarrow

        def tables() -> Iterator[pyarrow.Table]:
            names: list[str] = []
            for image in images:
                if isinstance(image, str) and not is_encodable(image):
                    image = ImageError(image, NO_NAME)
                if isinstance(image, ImageError):
                    self.failures.append(image)
                    continue
                names.append(image)
                if len(names) >= self.block_rows:
                    yield pyarrow.table({"path": pyarrow.array(names, pyarrow.string())})
                    names = []
            yield pyarrow.table({"path": pyarrow.array(names, pyarrow.string())})

        for table in tables():
            self.add_rows(table)
        self.flush()

    def add_rows(self, table: pyarrow.Table) -> None:
        """Add rows, path first and then the other columns, unless done."""
        self.others = table.schema.remove(0)
        chosen = table.take(self.indices(table))
        self.protocols.update(filter(None, map(protocol_of, chosen["path"].to_pylist())))
        self.pending.append(chosen)
        while sum(map(len, self.pending)) >= self.block_rows:
            self.flush()

    def flush(self) -> None:
        """Make a block of pending rows, up to its size."""
        import pyarrow

        if not any(map(len, self.pending)):
            return
        rows = pyarrow.concat_tables(self.pending)
        size = min(len(rows), self.block_rows)
        self.add_block(
            Listed(self.number, rows.take(pyarrow.array(range(size), pyarrow.int64())))
        )  # a copy: a slice is pickled with the whole
        self.pending = [rows[size:]] if size < len(rows) else []

    def indices(self, table: pyarrow.Table) -> pyarrow.Array:
        """Return the indices of rows to caption; equal rows count once."""
        import pyarrow

        chosen = []
        for index, key in enumerate(keys_of(table)):
            if key in self.seen:
                continue
            self.seen.add(key)
            if key in self.done.captioned or (key in self.done.failed and not self.retry):
                self.skipped += 1
            else:
                chosen.append(index)
        return pyarrow.array(chosen, pyarrow.int64())

    def add_block(self, block: Listed | Embedded) -> None:
        self.blocks.append(block)
        self.rows += len(block.rows)
        self.number += 1

    def add_shards(self, shards: Collection[str], output: Path) -> None:
        """Add WebDataset shards without rows yet, and with `retry` those with failures.

        shards: paths and URLs.
        output: folder of the rows.

        Raises OutputError, and ManifestError for a name that could be an image's.
        """
        again = self.done.failing if self.retry else set()
        captions = captions_in(output, again)
        for shard in dict.fromkeys(shards):
            if "#" in shard or not is_encodable(shard):
                raise ManifestError(f"{shard}: a shard's name may hold no # and nothing but UTF-8")
            self.protocols.update(filter(None, [protocol_of(shard)]))
            if shard in self.done.shards and shard not in again:
                self.skipped += 1
                continue
            self.blocks.append(Shard(self.number, shard, frozenset(captions.get(shard, ()))))
            self.number += 1

    def add_manifest(self, file: str, column: str) -> None:
        """Add a Parquet file's images. file: its path or URL. column: as in `Manifest`.

        Raises ManifestError, also if its other columns differ from the manifest before.
        """
        with Manifest.opened(self.reach, file, column) as manifest:
            for groups, rows in manifest.tables(self.block_rows):
                if self.others not in (None, rows.schema.remove(0)):
                    raise ManifestError(f"{file}: its other columns are not those of the manifest before it")
                if not manifest.encoded:
                    self.add_rows(rows)
                    continue
                self.others = rows.schema.remove(0)
                if len(chosen := self.indices(rows)):
                    self.add_block(Embedded(self.number, rows.take(chosen), chosen.to_pylist(), file, groups, column))
            self.flush()
