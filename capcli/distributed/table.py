"""The columns of the output: those of capcli's Parquet, and after them the other columns of what is captioned."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from capcli.outputs.parquet import as_table, schema

if TYPE_CHECKING:
    import pyarrow

GIVEN = "given_"  # stands before a column whose name the output needs for itself


def our_columns() -> list[str]:
    """Return the names of capcli's columns, of those too that a run on a cluster does not write."""
    return schema(keywords=True).names


def name_of_other(name: str) -> str:
    """Return what a column of a manifest is called in the output."""
    return GIVEN + name if name in our_columns() else name


def others_in(table: Any) -> list[str]:
    """Return the names of the columns that are not capcli's own. table: an output's table or schema."""
    ours = our_columns()
    return [name for name in (table.schema if hasattr(table, "schema") else table).names if name not in ours]


def captioned(rows: Sequence[dict[str, Any]], others: pyarrow.Table) -> pyarrow.Table:
    """Return the table of a block.

    rows: as `as_row` makes them.
    others: the other columns, under their names in the output; its types do not depend on what became of the images.
    """
    table = as_table(rows, keywords=False)
    for field, column in zip(others.schema, others.columns, strict=True):
        table = table.append_column(field.remove_metadata(), column)
    return table


def keys_of(table: pyarrow.Table) -> list[bytes]:
    """Return 16 bytes for each row, the same for rows with the same path and other columns, and for no others.

    A column that is empty in a row is as good as none, since not all shards have the same columns.

    table: of an output, or of what is to be captioned, with the same names.
    """
    names = ["path", *sorted(others_in(table))]
    keys = []
    for values in zip(*(table[name].to_pylist() for name in names), strict=True):
        row = [pair for pair in zip(names, values, strict=True) if pair[1] is not None]
        keys.append(hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return keys
