"""Photos inside other files: WebDataset's shards and Parquet with a column of images, read in place."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from capcli.images.find import is_image
from capcli.installing import install_line
from capcli.model.vocabulary import tokenize

SHARDS = (".tar", ".parquet")
TEXTS = (".txt", ".caption", ".json")  # of a shard's sample, beside its photo
# Keys and columns that hold captions; of several the first counts.
CAPTIONS = ("captions", "caption", "sentences_raw", "sentences", "text", "raw", "TEXT")
COLUMNS = ("image", "jpg", "png", "webp", "img", "photo")  # of photos, the likeliest first
GROUPS_AT_ONCE = 2  # groups of a Parquet file's rows that are kept in memory
parquet_lock = threading.Lock()


@dataclass(frozen=True)
class Packed:
    """Say where in another file a photo's bytes lie.

    file: a tar or Parquet file.
    begin, count: bytes in a tar; in Parquet the group of rows, and the row in it.
    column: in Parquet; "" for a tar.
    """

    file: Path
    begin: int
    count: int
    column: str = ""

    def open(self, name: str) -> BinaryIO:
        """Return the photo as a file in memory. name: for results and messages. Raises OSError."""
        if self.column:
            with parquet_lock:  # threads that wait find the group in memory
                content = read_group(os.fspath(self.file), self.begin, self.column)[self.count].as_py()
            content = content["bytes"] if isinstance(content, dict) else content
        else:
            with self.file.open("rb") as file:
                file.seek(self.begin)
                content = file.read(self.count)
        found = io.BytesIO(content)
        found.name = name
        return found


@lru_cache(GROUPS_AT_ONCE)
def read_group(file: str, group: int, column: str) -> Any:
    """Return a column of a group of a Parquet file's rows. Raises OSError."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as opened:
        return opened.read_row_group(group, [column]).column(0)


def read_tar(file: Path) -> Iterator[tuple[str, Packed, list[str], str]]:
    """Yield each photo of a WebDataset shard that has captions: its name, its place, the captions, and its split or "".

    A sample's files share a name up to the first dot: `a.jpg` has its captions in `a.txt`, a line each, or in
    `a.json`, {"caption": …}.

    Raises ValueError and OSError.
    """
    photos: dict[str, tuple[str, Packed]] = {}
    texts: dict[str, dict[str, str]] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, name = os.path.split(member.name)
                key = os.path.join(folder, name.partition(".")[0])
                ending = os.path.splitext(name)[1].lower()
                if member.isfile() and is_image(name):
                    photos.setdefault(key, (member.name, Packed(file, member.offset_data, member.size)))
                elif member.isfile() and ending in TEXTS:
                    content = tar.extractfile(member)
                    assert content is not None
                    texts.setdefault(key, {})[ending] = content.read().decode("utf-8", "replace")
    except tarfile.TarError as error:
        raise ValueError(f"not a tar file that can be read in place ({error})") from None
    for key, (name, place) in photos.items():
        said, split = captions_of(texts.get(key, {}), name)
        if said:
            yield name, place, said, split


def captions_of(texts: dict[str, str], name: str) -> tuple[list[str], str]:
    """Return a sample's captions, and its split or "". texts: by ending. name: for messages. Raises ValueError."""
    split = ""
    if ".json" in texts:
        try:
            row = json.loads(texts[".json"])
        except (ValueError, RecursionError):
            raise ValueError(f"the .json of {name} is not JSON") from None
        split = row.get("split", "") if isinstance(row, dict) else ""
        if said := said_in(row):
            return said, split
    lines = next((texts[ending].splitlines() for ending in (".caption", ".txt") if ending in texts), [])
    return [line.strip() for line in lines if tokenize(line)], split


def said_in(row: Any) -> list[str]:
    """Return the captions in a row, those without a word left out: a text, several, or Karpathy's sentences."""
    found: Any = next((row[key] for key in CAPTIONS if row.get(key)), []) if isinstance(row, dict) else []
    several = found if isinstance(found, list) else [found]
    texts = [each.get("raw") if isinstance(each, dict) else each for each in several]
    return [text.strip() for text in texts if isinstance(text, str) and tokenize(text)]


def read_parquet(file: Path) -> Iterator[tuple[str, Packed, list[str], str]]:
    """Yield each photo of a Parquet file that has captions, as `read_tar` does.

    The photos are bytes, or `{"bytes", "path"}` as the library `datasets` stores them. One without a path is called by
    its row.

    Raises ValueError and OSError.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ValueError(f"Parquet needs an extra package: {install_line('parquet')}") from None
    try:
        with ParquetFile(file) as opened:
            schema = opened.schema_arrow
            column = next((name for name in COLUMNS if name in schema.names), None)
            if column is None or not any(name in schema.names for name in CAPTIONS):
                raise ValueError(f"no column of photos and captions; it has {', '.join(schema.names)}")
            kind, rest = schema.field(column).type, [n for n in (*CAPTIONS, "split", "filename") if n in schema.names]
            paths = [f"{column}.path"] if pyarrow.types.is_struct(kind) and kind.get_field_index("path") >= 0 else []
            if not paths and not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
                raise ValueError(f"the column {column} holds {kind}, not encoded photos")
            number = 0
            for group in range(opened.num_row_groups):
                rows = opened.read_row_group(group, [*rest, *paths]).to_pylist()
                for place, row in enumerate(rows):
                    number += 1
                    name = (row[column] or {}).get("path") if paths else None
                    name = row.get("filename") or name or f"row {number}"
                    if said := said_in(row):
                        yield (
                            os.path.basename(str(name)),
                            Packed(file, group, place, column),
                            said,
                            row.get("split", ""),
                        )
    except pyarrow.ArrowException as error:
        raise ValueError(f"not a Parquet file that can be read ({str(error).splitlines()[0]})") from None
