"""Captions as Parquet, by pyarrow, which is imported when it is needed: one file, or a folder that can be continued."""

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
    """Write one file of whole row groups, complete when it is closed.

    Its columns are those of a row of JSON: path and caption and error, text; log_prob and score, double; unsure,
    boolean; candidates, a list of structs of caption, log_prob and score, or null if there is one candidate only; and,
    where they were asked for, keywords, a list of text.
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
        """Add the row of a caption or a failure, unless its image already has one. Raises ImageError, OutputError."""
        if not self.has_row(result.path):
            self.copy(as_row(result, self.layout.num, self.layout.min_score))

    def copy(self, row: dict[str, Any]) -> None:
        """Add a row, as `as_row` made it. Raises ImageError if its path is not UTF-8, and OutputError."""
        if not is_encodable(row["path"]):
            raise ImageError(row["path"], NO_NAME)
        self.pending.append(row)
        if len(self.pending) >= self.group:
            with OutputError.about(self.path):
                self.write_group()

    def write_group(self) -> None:
        """Write the rows that are pending as one row group. Raises OSError."""
        from pyarrow.parquet import ParquetWriter

        if self.writer is None:
            file = cast(WholeFile, self.file)
            file.write_bytes(b"")  # or it would not know that it was begun
            self.writer = ParquetWriter(file.file, schema(self.layout.keywords))
        self.writer.write_table(as_table(self.pending, self.layout.keywords))
        self.pending.clear()

    def close(self) -> None:
        """Complete the output. Raises OutputError."""
        with OutputError.about(self.path):
            if self.pending:
                self.write_group()
            if self.writer is not None:
                self.writer.close()
            self.file.close()

    def discard(self) -> None:
        """Abandon the output; the old one stays."""
        if self.writer is not None:
            self.writer.is_open = False  # or it would try to complete the file later, and complain
        self.file.discard()


class ParquetFolder(ParquetRows):
    """Write a folder of files, each of which is whole at every moment: part-000001.parquet, …

    A run that is killed loses the rows since the last file, and `open_folder` continues after it.
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
        """Begin a folder, or continue one.

        file, layout, finished: as `Rows` takes them.
        old: files that the first new one replaces.
        """
        super().__init__(file, layout, finished)
        self.old = old

    def write_group(self) -> None:
        """Write the rows that are pending as a file. Raises OSError."""
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
        """Do nothing: rows can be seen when there are enough of them for a file."""

    def discard(self) -> None:
        """Abandon the rows that are pending, leaving what is in the folder."""
        with contextlib.suppress(OSError):
            self.file.close()


def is_folder(path: str | None) -> bool:
    """Return whether a path means a folder: there is one, or it ends with a separator. path: None for stdout."""
    return path is not None and (os.path.isdir(path) or path.endswith(("/", os.sep)))


def check_parquet(path: str) -> None:
    """Raise OutputError if there is no pyarrow, or if a path is that of a pipe or a device."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise OutputError(path, f"Parquet needs an extra package: {install_line('parquet')}") from None
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OutputError(path, "Parquet cannot be written to a pipe or a device")


def check_folder(path: str, wanted: bool) -> list[Path]:
    """Return the parts in a folder of Parquet files that may be written to.

    path: may not exist yet.
    wanted: whether there may be parts in it.

    Raises OutputError if it can't be written to, if it has parts that are not wanted, or if capcli did not write one.
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


def check_place(path: str, wanted: bool) -> list[Path]:
    """Return the parts in a folder, whatever columns they have.

    path, wanted: as `check_folder` takes them.

    Raises OutputError if the folder can't be written to, or if it has parts that are not wanted.
    """
    if os.path.exists(path) and not os.path.isdir(path):
        raise OutputError(path, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not is_writable(path):
        raise OutputError(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    parts = parts_of(path)
    if parts and not wanted:
        raise OutputError(path, "has captions in it; use --resume or --existing overwrite, or name another folder")
    return parts


def finished_in(path: str, is_done: Callable[[dict[str, Any]], bool]) -> dict[str, bool]:
    """Return the images that a folder of parts is done with, path → whether there is a caption.

    path: may not exist.
    is_done: says of a row whether its image is not to be tried again.

    Raises OutputError if a part cannot be read, or if capcli did not write it.
    """
    rows = (row for part in parts_of(path) for row in read_parquet(part))
    return {row["path"]: bool(row["caption"]) for row in rows if is_done(row)}


def open_folder(
    path: str, layout: Layout, resume: bool, overwrite: bool, is_done: Callable[[dict[str, Any]], bool]
) -> ParquetFolder:
    """Return an open folder of parts, made if need be.

    path, layout, resume, overwrite: as `open_rows` takes them.
    is_done: says of a row whether its image is not to be tried again, so that the row stays.

    Raises OSError if another run is writing into it, and OutputError as `check_folder` does.
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
    """Return the files that `ParquetFolder` wrote into a folder, in order; none if there is no folder."""
    parts = Path(folder).glob("part-*.parquet")
    return sorted((part for part in parts if PART.fullmatch(part.name)), key=lambda part: (len(part.name), part.name))


def read_parquet(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as `as_row` made them, a row group at a time.

    Raises OutputError if it can't be read, or if capcli did not write it.
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
    """Open a file of captions. Raises OutputError for any other, and in the block for what cannot be read."""
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
    """Return the columns, as pyarrow has them. keywords: whether there is one for them."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    candidate = [("caption", text), ("log_prob", number), ("score", number)]
    return pyarrow.schema(
        [
            ("path", text),
            *candidate,
            ("candidates", pyarrow.list_(pyarrow.struct(candidate))),
            ("unsure", pyarrow.bool_()),
            ("error", text),
            *([("keywords", pyarrow.list_(text))] if keywords else []),
        ]
    )


def as_table(rows: Sequence[dict[str, Any]], keywords: bool) -> Any:
    """Return rows as a table of pyarrow's; bytes in reasons that are not UTF-8 are escaped.

    keywords: whether there is a column for them.
    """
    import pyarrow

    return pyarrow.Table.from_pylist(
        [
            {"unsure": False} | row | {"error": row.get("error", "").encode(errors="backslashreplace").decode() or None}
            for row in rows
        ],
        schema=schema(keywords),
    )


def as_bytes(table: Any) -> bytes:
    """Return the content of a file that holds a table of pyarrow's."""
    from pyarrow.parquet import write_table

    buffer = io.BytesIO()
    write_table(table, buffer)
    return buffer.getvalue()
