"""What a person can watch training by: curves.html, written anew whenever there is news, and TensorBoard."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from rich.console import Console

from capcli import maps
from capcli.files import OutputError, write_whole
from capcli.images.decode import open_upright
from capcli.maps.overlay import color_table
from capcli.maps.shown import THUMBNAIL, as_jpeg
from capcli.results import ImageError
from capcli.training.data.datasets import Photo
from capcli.training.watching.charts import Chart, figure

if TYPE_CHECKING:
    from capcli.training.watching.board import Board

PAGE_FILE = "curves.html"


Sentence = dict[str, Any]  # with its words' heat, as `maps.shown.sentence` returns it


class Picture(NamedTuple):
    """Hold a photo as the page embeds it: a small JPEG in Base64, its width and height in pixels."""

    content: str
    width: int
    height: int


class Said(NamedTuple):
    """Hold what was said of a photo. label: when."""

    label: str
    sentence: Sentence


class Shown(NamedTuple):
    """Hold a photo with all that was said of it, the latest first."""

    photo: Photo
    said: list[Said]


@dataclass(frozen=True)
class Table:
    """Hold the figures in full.

    head: the columns' names, the step's first, the others as group/name.
    rows: as long as the head; None where there is no figure.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class News:
    """Hold what the page shows.

    name: of the run.
    status: how far it has come, in a line.
    going: whether it goes on.
    charts: of its figures.
    note: what has to be known about them.
    table: the same figures.
    shown: photos with captions.
    what: which photos these are.
    person: who wrote the captions that they had before.
    """

    name: str
    status: str
    going: bool
    charts: Sequence[Chart]
    note: str
    table: Table
    shown: Sequence[Shown]
    what: str
    person: str = "a person"


class Watcher:
    """Write a run's page and, if asked to, event files. What cannot be written costs a line, and not the run."""

    def __init__(self, folder: Path, console: Console, tensorboard: bool = False) -> None:
        """Prepare to write, see the class.

        folder: of the run.
        console: for the lines.
        tensorboard: whether to write event files too, which needs the extra `tensorboard`.
        """
        self.path, self.console = folder / PAGE_FILE, console
        self.board: Board | None = None
        self.wants_board = tensorboard
        self.pictures: dict[Path, Picture | None] = {}
        self.told: set[str] = set()

    @cached_property
    def template(self) -> Template:
        """Return the page's template, which includes the style and the heat of the report of captions."""
        folders = [Path(__file__).parent / "page", Path(maps.__file__).parent / "page"]
        templates = Environment(
            loader=FileSystemLoader(folders),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            undefined=StrictUndefined,
            auto_reload=False,
        )
        return templates.get_template("curves.html")

    def write(self, news: News) -> None:
        """Replace the page by one that shows this, and hand the figures to TensorBoard."""
        now = datetime.now().astimezone()
        with self.telling():  # also templates that are gone, as capcli is updated while it trains
            text = self.template.render(
                news=news, picture=self.picture, figure=figure, now=now, colors=color_table("heat")
            )
            # Bytes of file names that are not UTF-8 become question marks. A page lost with the power is no loss.
            write_whole(self.path, text.encode("utf-8", "replace"), durable=False)
        if self.wants_board:
            self.wants_board = False  # until this has worked: a writer that failed once is of no use any more
            with self.telling():
                if self.board is None:
                    from capcli.training.watching.board import Board  # of an extra, which takes a second to import

                    self.board = Board(self.path.parent)
                self.board.write(news.table.head, news.table.rows)
                self.wants_board = True

    def picture(self, photo: Photo) -> Picture | None:
        """Return a photo in small, which is opened once; None for one that can't be read any more."""
        if photo.path not in self.pictures:
            self.pictures[photo.path] = None
            with contextlib.suppress(ImageError):
                small = open_upright(str(photo.path), THUMBNAIL)
                content = base64.b64encode(as_jpeg(small, optimize=True)).decode()
                self.pictures[photo.path] = Picture(content, small.width, small.height)
        return self.pictures[photo.path]

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Turn an OSError into a line, which is said once."""
        try:
            yield
        except OSError as error:
            line = f"{OutputError(error.filename or self.path.parent, error)}; training goes on without it"
            if line not in self.told:
                self.console.print(line, markup=False)
            self.told.add(line)
