"""Manifests: Parquet files with a column of paths, URLs or encoded images, and others to keep."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from capcli.distributed.reach import Reach
from capcli.distributed.table import name_of_other
from capcli.images.decode import why_unreadable

if TYPE_CHECKING:
    import pyarrow


class ManifestError(Exception):
    """Report an unusable list of images; str() is one line with path and reason."""


@dataclass
class Manifest:
    """Read a manifest's rows.

    file: its path or URL.
    parquet: its pyarrow ParquetFile.
    encoded: whether its column holds encoded images, bytes or structs with a field `bytes` as Hugging Face's `datasets`
        writes them; else paths and URLs.
    named: column of paths in the output; None names images by file and row: `file#17`.
    others: the other columns.
    """

    file: str
    parquet: Any
    encoded: bool
    named: str | None
    others: list[str]

    @classmethod
    @contextlib.contextmanager
    def opened(cls, reach: Reach, file: str, column: str) -> Iterator[Manifest]:
        """Open a manifest. column: of the images. Raises ManifestError, also for errors in the block."""
        from pyarrow.parquet import ParquetFile

        try:
            with reach.open(file) as opened, ParquetFile(opened) as parquet:
                schema = parquet.schema_arrow
                if column not in schema.names:
                    raise ManifestError(f"{file}: no column {column}; there are {', '.join(schema.names)}")
                encoded = holds_images(schema.field(column).type)
                if encoded is None:
                    kind = schema.field(column).type
                    raise ManifestError(f"{file}: column {column} holds {kind}, neither paths nor encoded images")
                named = column if not encoded else "path" if "path" in schema.names else None
                others = [name for name in schema.names if name not in (column, named)]
                if len({name_of_other(name) for name in others}) < len(others):
                    raise ManifestError(f"{file}: two columns would have the same name in the output")
                yield cls(file, parquet, encoded, named, others)
        except ManifestError:
            raise
        except Exception as error:  # from pyarrow, the system, or a store
            raise ManifestError(f"{file}: {why_unreadable(error)}") from None

    def tables(self, size: int) -> Iterator[tuple[list[int], pyarrow.Table]]:
        """Yield row groups, together at least `size` rows, 1 or more, with their rows: path, and the other columns."""
        groups, rows, start = [], 0, 0
        count = self.parquet.num_row_groups
        for group in range(count):
            groups.append(group)
            rows += self.parquet.metadata.row_group(group).num_rows
            if rows >= size or group == count - 1:
                yield groups, self.rows(groups, start, rows)
                groups, rows, start = [], 0, start + rows

    def rows(self, groups: list[int], start: int, count: int) -> pyarrow.Table:
        """Return row groups' `count` rows. start: the first one's number in the file."""
        import pyarrow
        from pyarrow import compute

        read = self.parquet.read_row_groups(groups, [*([self.named] if self.named else []), *self.others])
        paths = pyarrow.array((f"{self.file}#{row}" for row in range(start, start + count)), pyarrow.string())
        if self.named:
            given = compute.cast(read[self.named], pyarrow.string())
            paths = compute.if_else(compute.equal(compute.fill_null(given, ""), ""), paths, given)
        table = pyarrow.table({"path": paths})
        for name in self.others:
            field = read.schema.field(name).with_name(name_of_other(name)).remove_metadata()
            table = table.append_column(field, read[name])
        return table


def holds_images(kind: Any) -> bool | None:
    """Return whether a column of this type holds encoded images; False for text, None for anything else."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        inside = [kind.field(i) for i in range(kind.num_fields) if kind.field(i).name == "bytes"]
        kind = inside[0].type if inside else kind
        return True if types.is_binary(kind) or types.is_large_binary(kind) else None
    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    return False if types.is_string(kind) or types.is_large_string(kind) else None
