"""Listing what is to be captioned: arguments to blocks, without what an earlier run has done."""

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
BLOCK_ROWS = 1000  # images that are handed out at a time: a process that is lost costs at most these


@dataclass
class Listing:
    """Collect blocks of images that are to be captioned.

    reach: where images are found.
    done: what an earlier run has done.
    retry: whether what failed in it is tried again.
    block_rows: images in a block; those of shards, and encoded ones, stay together as their files have them.
    number: of the next block.
    blocks: the blocks so far.
    rows: images in them, not counting those of shards, which nobody has read yet.
    skipped: images, and shards, that are done already.
    failures: what cannot be put on a list.
    protocols: of the URLs.
    others: the other columns, as pyarrow's schema; None if nothing but shards is listed.
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
        """Add images that are named by paths and URLs."""
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
        """Add rows that name images, path first and the other columns, unless they are done."""
        self.others = table.schema.remove(0)
        chosen = table.take(self.indices(table))
        self.protocols.update(filter(None, map(protocol_of, chosen["path"].to_pylist())))
        self.pending.append(chosen)
        while sum(map(len, self.pending)) >= self.block_rows:
            self.flush()

    def flush(self) -> None:
        """Make a block of the rows that are pending, as many as it may have."""
        import pyarrow

        if not any(map(len, self.pending)):
            return
        rows = pyarrow.concat_tables(self.pending)
        size = min(len(rows), self.block_rows)
        self.add_block(
            Listed(self.number, rows.take(pyarrow.array(range(size), pyarrow.int64())))
        )  # a copy: a slice is pickled with all that it is of
        self.pending = [rows[size:]] if size < len(rows) else []

    def indices(self, table: pyarrow.Table) -> pyarrow.Array:
        """Return the indices of the rows that are to be captioned; rows that are alike are captioned once."""
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
        """Add a block of rows."""
        self.blocks.append(block)
        self.rows += len(block.rows)
        self.number += 1

    def add_shards(self, shards: Collection[str], output: Path) -> None:
        """Add WebDataset shards that have no rows yet, and with `retry` those with failures.

        shards: their paths and URLs.
        output: the folder in which rows are looked for.

        Raises ManifestError for a name that cannot be told from those of its images, and OutputError.
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
        """Add the images of a Parquet file.

        file: its path or URL.
        column: as `Manifest` takes it.

        Raises ManifestError, also for one whose other columns are not those of the manifest before.
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
