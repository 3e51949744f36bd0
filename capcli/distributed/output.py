"""The folder that a cluster writes: what is done already, and putting it right after runs that were killed."""

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
    """Return the name of a block's file, as `parts_of` and `capcli merge` find it."""
    return f"part-{number:09}.parquet"


def first_number(folder: Path) -> int:
    """Return the number of a run's first block: a million for each run, so that none writes to another's files.

    Actors of a run that was killed may still be writing when the next one begins.
    """
    last = max((int(found[1]) for part in parts_of(folder) if (found := PART.fullmatch(part.name))), default=0)
    return (last // BLOCKS_PER_RUN + 1) * BLOCKS_PER_RUN + 1


@dataclass
class Done:
    """Hold what an output has rows of.

    captioned: keys of the rows that have a caption.
    failed: keys of those that have an error.
    others: the other columns of the first file, as pyarrow's schema; None if there is none.
    shards: the WebDataset shards that have rows, which they get all together.
    failing: those of them with failures.
    """

    captioned: set[bytes] = field(default_factory=set)
    failed: set[bytes] = field(default_factory=set)
    others: Any = None
    shards: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)


def clear(folder: Path) -> Iterator[str]:
    """Remove what runs that were killed left half written, and yield a line for each such part of the output.

    folder: no other run may write to it.

    Raises OSError.
    """
    for entry in list(folder.iterdir()):
        if TEMPORARY.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
    for part in parts_of(folder):
        if is_half_written(part):
            part.unlink()
            yield f"{part}: half written; removed, so its images are captioned again"


def is_half_written(part: Path) -> bool:
    """Return whether a file begins as Parquet and does not end as such. Raises OSError."""
    with part.open("rb") as file:
        begins, size = file.read(len(MAGIC)), os.fstat(file.fileno()).st_size
        file.seek(-min(size, len(MAGIC)), os.SEEK_END)
        return MAGIC.startswith(begins) and (size < 3 * len(MAGIC) or file.read() != MAGIC)


def settle(folder: Path, shards: Collection[str] = ()) -> Done:
    """Return what an output has rows of, after leaving one row of each image: a caption, or else the last failure.

    folder: may not exist.
    shards: the WebDataset shards that are captioned.

    Raises OutputError for a file that cannot be read, or that capcli did not write.
    """
    done = Done()
    failures: list[tuple[bytes, Path]] = []
    latest: dict[str, Path] = {}  # part with rows of a shard
    broken: list[tuple[str, bytes, Path]] = []  # shards that could not be read to their end
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
        if latest[shard] != part:  # it has been read again since
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
    """Remove rows from a file, and the file if it has no others. keys: theirs. Raises OutputError."""
    table = read_part(part)
    left = table.filter([key not in keys for key in keys_of(table)])
    with OutputError.about(part):
        if left.num_rows:
            write_whole(part, as_bytes(left), like=part)
        else:
            part.unlink()


def captions_in(folder: Path, shards: Collection[str]) -> dict[str, set[str]]:
    """Return the paths of the images in shards that have captions, shard → paths. Raises OutputError."""
    found: dict[str, set[str]] = {shard: set() for shard in shards}
    for part in parts_of(folder) if shards else ():
        table = read_part(part, captions=False)
        for path, error in zip(table["path"].to_pylist(), table["error"].to_pylist(), strict=True):
            shard = path.partition("#")[0]
            if error is None and shard in found:
                found[shard].add(path)
    return found


def read_part(part: Path, captions: bool = True) -> pyarrow.Table:
    """Return a file of an output; without captions its paths, errors and other columns only. Raises OutputError."""
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
        if error.errno is not None:  # otherwise pyarrow's, about what is in the file
            raise OutputError(part, error) from None
    raise OutputError(part, "not parquet as this command writes it; left as it is")
