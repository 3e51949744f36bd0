"""A cluster's output folder: what is done, and repairs after killed runs."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capcli.distributed.table import keys_of, others_in
from capcli.files import OutputError, write_whole
from capcli.outputs.parquet import PART, as_bytes, parts_of, schema

if TYPE_CHECKING:
    import pyarrow

BLOCKS_PER_RUN = 1_000_000
TEMPORARY = re.compile(r"\.part-[0-9]+\.parquet-[0-9a-f]{8}\.tmp")
MAGIC = b"PAR1"  # begins and ends every Parquet file


def name_of_part(number: int) -> str:
    """Return a block's file name, as `parts_of` and `capcli write` find it."""
    return f"part-{number:09}.parquet"


def first_number(folder: Path) -> int:
    """Return a run's first block number. Each run has a million: a killed run's actors may still be writing."""
    last = max((int(found[1]) for part in parts_of(folder) if (found := PART.fullmatch(part.name))), default=0)
    return (last // BLOCKS_PER_RUN + 1) * BLOCKS_PER_RUN + 1


@dataclass
class Done:
    """Hold what an output has rows of.

    captioned, failed: keys of rows with a caption, or an error.
    others: other columns of the first file, as pyarrow's schema; None without a file.
    shards: WebDataset shards with rows, written all at once.
    failing: those with failures.
    """

    captioned: set[bytes] = field(default_factory=set)
    failed: set[bytes] = field(default_factory=set)
    others: Any = None
    shards: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)


def clear(folder: Path) -> Iterator[str]:
    """Remove killed runs' half-written files, yielding a line for each such part of the output.

    No other run may write there. Raises OSError.
    """
    for entry in list(folder.iterdir()):
        if TEMPORARY.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
    for part in parts_of(folder):
        if is_half_written(part):
            part.unlink()
            yield f"{part}: half written; removed, so its images are captioned again"


def is_half_written(part: Path) -> bool:
    """Return whether a file begins as Parquet but does not end so. Raises OSError."""
    with part.open("rb") as file:
        begins, size = file.read(len(MAGIC)), os.fstat(file.fileno()).st_size
        file.seek(-min(size, len(MAGIC)), os.SEEK_END)
        return MAGIC.startswith(begins) and (size < 3 * len(MAGIC) or file.read() != MAGIC)


def settle(folder: Path, shards: Collection[str] = ()) -> Done:
    """Leave one row of each image, a caption or else the last failure, and return what the output has.

    folder: need not exist.
    shards: WebDataset shards to caption.

    Raises OutputError for a file that is unreadable, or not from capcli.
    """
    done = Done()
    failures: list[tuple[bytes, Path]] = []
    latest: dict[str, Path] = {}  # last part with the shard's rows
    broken: list[tuple[str, bytes, Path]] = []  # shards not read to their end
    surplus: dict[Path, set[bytes]] = defaultdict(set)
    for part in parts_of(folder):
        table = read_part(part, captions=False)
        if done.others is None:
            done.others = table.select(others_in(table)).schema
        fails = table["error"].is_valid().to_pylist()
        for key, path, failed in zip(keys_of(table), table["path"].to_pylist(), fails, strict=True):
            shard = path.partition("#")[0]
            if shard in shards:
                latest[shard] = part
                done.shards.add(shard)
            if not failed:
                if key in done.captioned:
                    surplus[part].add(key)
                done.captioned.add(key)
                continue
            failures.append((key, part))
            if shard in shards:
                done.failing.add(shard)
                if path == shard:
                    broken.append((shard, key, part))
    for shard, key, part in broken:
        if latest[shard] != part:  # read again since
            surplus[part].add(key)
    last = dict(failures)
    for key, part in failures:
        if key in done.captioned or last[key] != part:
            surplus[part].add(key)
        elif key not in surplus[part]:
            done.failed.add(key)
    for part, keys in surplus.items():
        if keys:
            remove_rows(part, keys)
    return done


def remove_rows(part: Path, keys: Collection[bytes]) -> None:
    """Remove rows by key from a file, and the file if none are left. Raises OutputError."""
    table = read_part(part)
    left = table.filter([key not in keys for key in keys_of(table)])
    with OutputError.about(part):
        if left.num_rows:
            write_whole(part, as_bytes(left), like=part)
        else:
            part.unlink()


def captions_in(folder: Path, shards: Collection[str]) -> dict[str, set[str]]:
    """Return the captioned images in shards, shard → paths. Raises OutputError."""
    found: dict[str, set[str]] = {shard: set() for shard in shards}
    for part in parts_of(folder) if shards else ():
        table = read_part(part, captions=False)
        for path, error in zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True):
            shard = path.partition("#")[0]
            if error is None and shard in found:
                found[shard].add(path)
    return found


def read_part(part: Path, captions: bool = True) -> pyarrow.Table:
    """Return an output file; without captions only its paths, errors and other columns. Raises OutputError."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with part.open("rb") as file, ParquetFile(file) as parquet:
            found, ours = parquet.schema_arrow, schema(keywords=False)
            if all(name in found.names and found.field(name).type == ours.field(name).type for name in ours.names):
                return parquet.read(None if captions else ["path", "error", *others_in(found)])
    except pyarrow.ArrowException:
        pass
    except OSError as error:
        if error.errno is not None:  # otherwise pyarrow's, about the content
            raise OutputError(part, error) from None
    raise OutputError(part, "not parquet as this command writes it; left as it is")
