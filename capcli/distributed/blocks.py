"""Blocks of images, each captioned by an actor into one file, and access to the images."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from capcli.distributed.reach import AT_ONCE, Reach
from capcli.distributed.table import name_of_other
from capcli.images.decode import why_unreadable
from capcli.images.find import SUFFIXES
from capcli.results import ImageError
from capcli.streaming import ahead

if TYPE_CHECKING:
    import pyarrow

Named = tuple[str, str | bytes | ImageError]  # the path in the output, and what to caption
MOST_BYTES = 500_000_000  # of a file in a shard
ROWS_AT_ONCE = 32  # encoded images read from Parquet


@dataclass
class Block:
    """Hold images to caption together. number: of their captions' file."""

    number: int

    def images(self, reach: Reach) -> Iterator[Named]:
        """Yield the images, in the order of their rows."""
        raise NotImplementedError

    def others(self) -> pyarrow.Table:
        """Return the other columns, a row for each image yielded by `images`; call it afterwards."""
        raise NotImplementedError


@dataclass
class Listed(Block):
    """Hold images named by paths and URLs. rows: path, and the other columns."""

    rows: pyarrow.Table

    def images(self, reach: Reach) -> Iterator[Named]:
        """Yield the images, fetching URLs ahead in threads."""
        paths = self.rows["path"].to_pylist()
        yield from zip(paths, ahead(reach.source, paths, AT_ONCE), strict=True)

    def others(self) -> pyarrow.Table:
        return self.rows.drop_columns(["path"])


@dataclass
class Embedded(Block):
    """Hold images encoded in a Parquet file.

    rows: path, and the other columns.
    offsets: the rows' positions in the row groups, ascending.
    file: its path or URL.
    column: of the images: bytes, or structs with a field `bytes`.
    """

    rows: pyarrow.Table
    offsets: list[int]
    file: str
    groups: list[int]
    column: str

    def images(self, reach: Reach) -> Iterator[Named]:
        """Yield the images; if the file cannot be read, an error for each one left."""
        waiting = list(zip(self.offsets, self.rows["path"].to_pylist(), strict=True))[::-1]
        try:
            for start, values in self.batches(reach):
                while waiting and waiting[-1][0] < start + len(values):
                    offset, path = waiting.pop()
                    yield path, values[offset - start].as_py() or ImageError(path, "no image in its row")
        except Exception as error:  # the store's or pyarrow's
            reason = f"{self.file}: {why_unreadable(error)}"
        else:
            reason = f"{self.file}: has fewer rows than it had"
        for _, path in reversed(waiting):
            yield path, ImageError(path, reason, "its Parquet file cannot be read")

    def batches(self, reach: Reach) -> Iterator[tuple[int, Any]]:
        """Yield arrays of encoded images, each with its first one's offset."""
        import pyarrow
        from pyarrow.parquet import ParquetFile

        start = 0
        with reach.open(self.file) as file, ParquetFile(file) as parquet:
            kind = parquet.schema_arrow.field(self.column).type
            column = f"{self.column}.bytes" if pyarrow.types.is_struct(kind) else self.column
            for batch in parquet.iter_batches(ROWS_AT_ONCE, self.groups, [column]):
                values = batch.column(0)
                yield start, values.field("bytes") if pyarrow.types.is_struct(values.type) else values
                start += len(values)

    def others(self) -> pyarrow.Table:
        return self.rows.drop_columns(["path"])


@dataclass
class Shard(Block):
    """Hold a WebDataset shard's images: a tar file where a sample's files share their name up to a dot.

    A path in the output is the shard's, `#`, and the image's in the shard.

    file: the shard's path or URL.
    skip: paths already done.
    """

    file: str
    skip: frozenset[str] = frozenset()
    samples: list[dict[str, bytes]] = field(default_factory=list, repr=False)

    def images(self, reach: Reach) -> Iterator[Named]:
        """Yield each sample's first image, and an error for the shard itself if it cannot be read to its end."""
        try:
            for name, image, others in self.read(reach):
                path = f"{self.file}#{name}"
                if path not in self.skip:
                    self.samples.append(others)
                    yield path, ImageError(path, "no image in this sample") if image is None else image
            return
        except (OSError, EOFError, MemoryError, tarfile.TarError, zlib.error, ImportError) as error:
            reason = why_unreadable(error)
        self.samples.append({})
        yield self.file, ImageError(self.file, reason)

    def read(self, reach: Reach) -> Iterator[tuple[str, bytes | ImageError | None, dict[str, bytes]]]:
        """Yield each sample: its image's name, or else its own; the image; and its other files by ending.

        Further images are left out; an oversized file gives an error for an image.
        """
        sample, name = None, ""
        image: bytes | ImageError | None = None
        others: dict[str, bytes] = {}
        with reach.open(self.file) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                if not member.isfile() or base.startswith("."):
                    continue
                stem, _, ending = base.partition(".")
                if (folder, stem) != sample:
                    if sample is not None:
                        yield name, image, others
                    sample, name, image, others = (folder, stem), f"{folder}/{stem}".lstrip("/"), None, {}
                is_image = os.path.splitext(base)[1].lower() in SUFFIXES
                if is_image and image is not None:
                    continue
                name = as_utf_8(member.name) if is_image else name
                if member.size > MOST_BYTES:  # not read: it may be a thousandth of that compressed
                    kind = f"more than the limit of {MOST_BYTES:,} bytes"
                    image = ImageError(f"{self.file}#{name}", f"{base}: {member.size:,} bytes, {kind}", kind)
                elif is_image:
                    image = self.content(tar, member)
                else:
                    others[name_of_other(as_utf_8(ending))] = self.content(tar, member)
        if sample is not None:
            yield name, image, others

    def content(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        """Return a tar member's content. Raises OSError and tarfile.TarError."""
        file = tar.extractfile(member)
        content = file.read() if file else b""
        if len(content) < member.size:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def others(self) -> pyarrow.Table:
        """Return the samples' other files, a column of bytes per ending, null where missing."""
        import pyarrow

        names = sorted({name for others in self.samples for name in others})
        columns = {
            name: pyarrow.array([others.get(name) for others in self.samples], pyarrow.binary()) for name in names
        }
        return pyarrow.table(columns)


def as_utf_8(name: str) -> str:
    """Return a name with bytes that are not UTF-8 escaped."""
    return name.encode(errors="backslashreplace").decode()
