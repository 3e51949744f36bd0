"""Captions as Parquet, by pyarrow, imported when needed: one file, or a folder that can be continued."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from capcli.files import LockedFolder, OutputError, WholeFile, is_writable, write_whole
from capcli.installing import install_line
from capcli.outputs.originals import UntouchableError, check_permission
from capcli.outputs.rows import Layout, Rows, as_read, as_row, is_encodable
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.files import OutputFile
    from capcli.results import Caption

PART = re.compile(r"part-([0-9]{6,})\.parquet")
NO_NAME = "its name is not UTF-8, which Parquet requires"


class ParquetRows(Rows):
    """Write one file in row groups, complete when closed.

    Columns as in JSON rows: path, caption and error, text; log_prob, score and confidence, double; unsure, boolean;
    candidates, a list of structs of caption, log_prob and score, null for a single candidate; kinds, a list of structs
    of name and probability; and keywords, if asked for, a list of text.
    """

    name = "parquet"
    endings: ClassVar[tuple[str, ...]] = (".parquet",)
    at_once = True
    streams = False
    group = 10_000  # rows

    def __init__(self, file: OutputFile, layout: Layout, finished: dict[str, bool] | None = None) -> None:
        super().__init__(file, layout, finished)
        self.pending: list[dict[str, Any]] = []
        self.writer: Any = None

    def write(self, result: Caption | ImageError) -> None:
        if not self.has_row(result.path):
            self.copy(as_row(result, self.layout.num, self.layout.min_confidence))

    def copy(self, row: dict[str, Any]) -> None:
        """Add a row from `as_row`. Raises ImageError if its path is not UTF-8, and OutputError."""
        if not is_encodable(row["path"]):
            raise ImageError(row["path"], NO_NAME)
        self.pending.append(row)
        if len(self.pending) >= self.group:
            with OutputError.about(self.path):
                self.write_group()

    def write_group(self) -> None:
        """Write the pending rows as a row group. Raises OSError."""
        from pyarrow.parquet import ParquetWriter

        if self.writer is None:
            file = cast(WholeFile, self.file)
            file.write_bytes(b"")  # so that it counts as begun
            self.writer = ParquetWriter(file.file, schema(self.layout.keywords))
        self.writer.write_table(as_table(self.pending, self.layout.keywords))
        self.pending.clear()

    def close(self) -> None:
        with OutputError.about(self.path):
            if self.pending:
                self.write_group()
            if self.writer is not None:
                self.writer.close()
            self.file.close()

    def discard(self) -> None:
        """Abandon the output; the old one stays."""
        if self.writer is not None:
            self.writer.is_open = False  # or it would try to complete the file later
        self.file.discard()


class ParquetFolder(ParquetRows):
    """Write a folder of files, each whole at every moment: part-000001.parquet, …

    A killed run loses only the rows since the last; `open_folder` continues it.
    """

    endings = ()
    resumable = True
    group = 1000

    def __init__(
        self,
        file: OutputFile,
        layout: Layout,
        finished: dict[str, bool] | None = None,
        old: Sequence[Path] = (),
    ) -> None:
        """Begin or continue a folder.

        file, layout, finished: as in `Rows`.
        old: files that the first new one replaces.
        """
        super().__init__(file, layout, finished)
        self.old = old

    def write_group(self) -> None:
        """Write the pending rows as a file. Raises OSError."""
        parts = parts_of(self.path)
        number = max((int(PART.fullmatch(part.name)[1]) for part in parts), default=0) + 1  # type: ignore[index]
        write_whole(
            Path(self.path) / f"part-{number:06}.parquet", as_bytes(as_table(self.pending, self.layout.keywords))
        )
        self.pending.clear()
        for part in self.old:
            part.unlink(missing_ok=True)
        self.old = ()

    def flush(self) -> None:
        """Do nothing: rows show once they fill a file."""

    def discard(self) -> None:
        """Abandon pending rows, keeping the folder's files."""
        with contextlib.suppress(OSError):
            self.file.close()


def is_folder(path: str | None) -> bool:
    """Return whether a path is a folder, or ends with a separator. path: None for stdout."""
    return path is not None and (os.path.isdir(path) or path.endswith(("/", os.sep)))


def check_parquet(path: str) -> None:
    """Raise OutputError without pyarrow, or if the path is a pipe or device."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise OutputError(path, f"Parquet needs an extra package: {install_line('parquet')}") from None
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OutputError(path, "Parquet cannot be written to a pipe or a device")


def check_folder(path: str, wanted: bool) -> list[Path]:
    """Return the parts in a folder of Parquet files, which need not exist.

    wanted: whether parts may be there.

    Raises OutputError for an unwritable folder, unwanted parts, or parts that capcli did not write.
    """
    parts = check_place(path, wanted)
    for part in parts:
        with opened(part):
            pass
        try:
            check_permission(part, part.stat())
        except UntouchableError as error:
            raise OutputError(part, str(error)) from None
    return parts


def check_place(path: str, wanted: bool, remedy: str = "--resume or --existing overwrite") -> list[Path]:
    """Return the parts in a folder, whatever their columns.

    path, wanted: as in `check_folder`.
    remedy: the options that want them.

    Raises OutputError for an unwritable folder or unwanted parts.
    """
    if os.path.exists(path) and not os.path.isdir(path):
        raise OutputError(path, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not is_writable(path):
        raise OutputError(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    parts = parts_of(path)
    if parts and not wanted:
        raise OutputError(path, f"has captions in it; use {remedy}, or name another folder")
    return parts


def finished_in(path: str, is_done: Callable[[dict[str, Any]], bool]) -> dict[str, bool]:
    """Return a folder's finished images, path → whether there is a caption; none without a folder.

    is_done: whether a row's image needs no retry.

    Raises OutputError if a part cannot be read, or capcli did not write it.
    """
    rows = (row for part in parts_of(path) for row in read_parquet(part))
    return {row["path"]: bool(row["caption"]) for row in rows if is_done(row)}


def open_folder(
    path: str, layout: Layout, resume: bool, overwrite: bool, is_done: Callable[[dict[str, Any]], bool]
) -> ParquetFolder:
    """Return an open folder of parts, made if need be.

    path, layout, resume, overwrite: as in `open_rows`.
    is_done: as in `finished_in`; other rows go.

    Raises OSError if another run is writing there, and OutputError as `check_folder` does.
    """
    folder = LockedFolder(Path(path))
    try:
        parts = check_folder(path, resume or overwrite)
        finished: dict[str, bool] = {}
        for part in parts if resume else ():
            rows = list(read_parquet(part))
            kept = [row for row in rows if is_done(row)]
            if not kept:
                part.unlink()
            elif len(kept) < len(rows):
                write_whole(part, as_bytes(as_table(kept, any("keywords" in row for row in kept))), like=part)
            finished |= {row["path"]: bool(row["caption"]) for row in kept}
        return ParquetFolder(cast("OutputFile", folder), layout, finished, () if resume else parts)
    except BaseException:
        folder.close()
        raise


def parts_of(folder: str | os.PathLike[str]) -> list[Path]:
    """Return a folder's files from `ParquetFolder`, in order; none without a folder."""
    parts = Path(folder).glob("part-*.parquet")
    return sorted((part for part in parts if PART.fullmatch(part.name)), key=lambda part: (len(part.name), part.name))


def read_parquet(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield a file's rows as `as_row` made them, by row group.

    Raises OutputError if it cannot be read, or capcli did not write it.
    """
    with opened(path) as file:
        number = 0
        for group in range(file.num_row_groups):
            for number, row in enumerate(file.read_row_group(group).to_pylist(), number + 1):  # noqa: B020
                try:
                    filled = {name: value for name, value in row.items() if value is not None and value is not False}
                    yield as_read(filled if "error" in filled else {"caption": None, **filled})
                except (ValueError, TypeError, AttributeError, LookupError):
                    reason = f"record {number} is not parquet as this command writes it; left as it is"
                    raise OutputError(path, reason) from None


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a file of captions. Raises OutputError for any other, and in the block for unreadable content."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    strange = OutputError(path, "not parquet as this command writes it; left as it is")
    try:
        with open(path, "rb") as file, ParquetFile(file) as parquet:
            found = {field.name: field.type for field in parquet.schema_arrow}
            if all(found != {field.name: field.type for field in schema(keywords)} for keywords in (False, True)):
                raise strange
            yield parquet
    except OSError as error:
        if error.errno is None:  # pyarrow's, about what is in the file
            raise strange from None
        raise OutputError(path, error) from None
    except pyarrow.ArrowException:
        raise strange from None


def schema(keywords: bool) -> Any:
    """Return pyarrow's schema of the columns. keywords: whether they have one."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    candidate = [("caption", text), ("log_prob", number), ("score", number)]
    kind = [("name", text), ("probability", number)]
    return pyarrow.schema(
        [
            ("path", text),
            *candidate,
            ("candidates", pyarrow.list_(pyarrow.struct(candidate))),
            ("unsure", pyarrow.bool_()),
            ("error", text),
            ("confidence", number),
            ("kinds", pyarrow.list_(pyarrow.struct(kind))),
            *([("keywords", pyarrow.list_(text))] if keywords else []),
        ]
    )


def as_table(rows: Sequence[dict[str, Any]], keywords: bool) -> Any:
    """Return rows as a pyarrow table, escaping bytes in errors that are not UTF-8. keywords: as for `schema`."""
    import pyarrow

    return pyarrow.Table.from_pylist(
        [
            {"unsure": False} | row | {"error": row.get("error", "").encode(errors="backslashreplace").decode() or None}
            for row in rows
        ],
        schema=schema(keywords),
    )


def as_bytes(table: Any) -> bytes:
    """Return a Parquet file with a pyarrow table."""
    from pyarrow.parquet import write_table

    buffer = io.BytesIO()
    write_table(table, buffer)
    return buffer.getvalue()
