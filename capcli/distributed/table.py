"""The output's columns: those of capcli's Parquet, then the input's other columns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from capcli.outputs.parquet import as_table, schema

if TYPE_CHECKING:
    import pyarrow

GIVEN = "given_"  # prefix for a column whose name the output needs


def our_columns() -> list[str]:
    """Return capcli's columns, even those that a cluster does not write."""
    return schema(keywords=True).names


def name_of_other(name: str) -> str:
    """Return a manifest column's name in the output."""
    return GIVEN + name if name in our_columns() else name


def others_in(table: Any) -> list[str]:
    """Return the columns that are not capcli's own. table: an output's table or schema."""
    ours = our_columns()
    return [name for name in (table.schema if hasattr(table, "schema") else table).names if name not in ours]


def captioned(rows: Sequence[dict[str, Any]], others: pyarrow.Table) -> pyarrow.Table:
    """Return a block's table.

    rows: from `as_row`.
    others: the other columns, named as in the output; results do not change their types.
    """
    table = as_table(rows, keywords=False)
    for field, column in zip(others.schema, others.columns, strict=True):
        table = table.append_column(field.remove_metadata(), column)
    return table


def keys_of(table: pyarrow.Table) -> list[bytes]:
    """Return a 16-byte key per row, equal just for rows with the same path and other columns.

    An empty column counts as missing, since shards' columns differ.

    table: of an output, or of input with its names.
    """
    names = ["path", *sorted(others_in(table))]
    keys = []
    for values in zip(*(table[name].to_pylist() for name in names), strict=True):
        row = [pair for pair in zip(names, values, strict=True) if pair[1] is not None]
        keys.append(hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return keys
