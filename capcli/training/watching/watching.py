"""Ways to watch a training: curves.html, rewritten with all news, and TensorBoard."""

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


Sentence = dict[str, Any]  # with its words' heat, from `maps.shown.sentence`


class Picture(NamedTuple):
    """Hold a photo for the page: a small JPEG in Base64, width and height in pixels."""

    content: str
    width: int
    height: int


class Said(NamedTuple):
    """Hold a caption of a photo. label: when it was made."""

    label: str
    sentence: Sentence


class CaptionedPhoto(NamedTuple):
    """Hold a photo with its captions, latest first."""

    photo: Photo
    said: list[Said]


@dataclass(frozen=True)
class Table:
    """Hold all figures.

    head: names of columns, the step's first, others as group/name.
    rows: as long as the head; None for no figure.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class News:
    """Hold the page's content.

    status: progress in a line.
    going: whether the run goes on.
    note: what to know about the charts.
    table: the charts' figures.
    what: heading of the photos shown.
    person: who captioned them before.
    """

    name: str
    status: str
    going: bool
    charts: Sequence[Chart]
    note: str
    table: Table
    shown: Sequence[CaptionedPhoto]
    what: str
    person: str = "a person"


class Watcher:
    """Write a run's page and, if asked, event files. A failed write costs a printed line, not the run."""

    def __init__(self, folder: Path, console: Console, tensorboard: bool = False) -> None:
        """Prepare to write into a run's folder.

        tensorboard: whether to write event files; needs the extra `tensorboard`.
        """
        self.path, self.console = folder / PAGE_FILE, console
        self.board: Board | None = None
        self.wants_board = tensorboard
        self.pictures: dict[Path, Picture | None] = {}
        self.told: set[str] = set()

    @cached_property
    def template(self) -> Template:
        """Return the page's template, which shares the caption report's style and heat."""
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
        """Replace the page, and hand the figures to TensorBoard."""
        now = datetime.now().astimezone()
        with self.telling():  # even a template lost to an update of capcli during training
            text = self.template.render(
                news=news, picture=self.picture, figure=figure, now=now, colors=color_table("heat")
            )
            # File names' bytes that are not UTF-8 become question marks. Losing the page in a power cut is no loss.
            write_whole(self.path, text.encode("utf-8", "replace"), durable=False)
        if self.wants_board:
            self.wants_board = False  # until this works: a writer that failed once is useless
            with self.telling():
                if self.board is None:
                    from capcli.training.watching.board import Board  # an extra that takes a second to import

                    self.board = Board(self.path.parent)
                self.board.write(news.table.head, news.table.rows)
                self.wants_board = True

    def picture(self, photo: Photo) -> Picture | None:
        """Return a small copy of a photo, which is opened once; None if it can't be read."""
        if photo.path not in self.pictures:
            self.pictures[photo.path] = None
            with contextlib.suppress(ImageError):
                small = open_upright(photo.source(), THUMBNAIL)
                content = base64.b64encode(as_jpeg(small, optimize=True)).decode()
                self.pictures[photo.path] = Picture(content, small.width, small.height)
        return self.pictures[photo.path]

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Turn an OSError into a line, printed once."""
        try:
            yield
        except OSError as error:
            line = f"{OutputError(error.filename or self.path.parent, error)}; training goes on without it"
            if line not in self.told:
                self.console.print(line, markup=False)
            self.told.add(line)
