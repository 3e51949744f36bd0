"""Captions and attention as one self-contained HTML page."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from capcli.files import OutputError, WholeFile
from capcli.maps.overlay import OverlayOptions, color_table
from capcli.maps.photo import photo_of
from capcli.maps.shown import as_webp, judgement, sentence
from capcli.outputs.sink import Sink
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption

THUMBNAIL, MOST = 560, 14_000  # longest side in pixels, bytes: sharp on a phone, and below 25 kB with caption and heat
CARDS = "(cards)"  # placeholder of the cards in the page


def load_templates() -> Environment:
    """Return the templates of this folder."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )


class HtmlReport(Sink):
    """Write a page that grows image by image, and is put in place once complete.

    Pictures are embedded as small WebPs, attention as one byte per cell.
    """

    path: Path
    photo_side = THUMBNAIL

    def __init__(
        self,
        path: Path,
        options: OverlayOptions,
        num: int = 1,
        show_own: Callable[[Caption], dict[str, Any]] | None = None,
    ) -> None:
        """Begin a page.

        num: candidates per image, 1 or more.
        show_own: for a page of a person's sentences, returns what `sentence` does, with a `note` and `cells` of a
            table; None for captions.

        Raises OutputError or OSError if it cannot be written, or another run is writing it.
        """
        self.path, self.options, self.num, self.show_own = path, options, num, show_own
        self.failures: list[ImageError] = []
        self.written = 0
        templates = load_templates()
        self.card = templates.get_template("card.html")
        # Rendered piece by piece: what follows the cards is evaluated after them.
        self.pieces = templates.get_template("page.html").generate(
            report=self, colors=color_table(options.style), cards=CARDS
        )
        place = path.resolve()  # a link stays a link
        self.file = WholeFile(place, like=place if place.is_file() else None)
        for piece in itertools.takewhile(lambda piece: piece != CARDS, self.pieces):
            self.add(piece)

    def write(self, result: Caption | ImageError) -> None:
        """Add a caption, or keep a failure for the page's end.

        Raises ImageError if the image is no longer readable, and OutputError if the page cannot be written.
        """
        if isinstance(result, ImageError):
            self.failures.append(result)
            return
        try:
            photo = photo_of(result, THUMBNAIL)
        except ImageError as error:
            self.failures.append(error)
            raise
        others, keywords = result.candidates[1 : self.num], result.keywords or ()
        self.add(
            self.card.render(
                picture=base64.b64encode(as_webp(photo, MOST)).decode(),
                width=photo.width,
                height=photo.height,
                caption=sentence(result.best) if self.show_own is None else self.show_own(result),
                others=[sentence(candidate) for candidate in others],
                own=self.show_own is not None,
                smooth=int(self.options.smooth),
                keywords=keywords,
                judgement="" if self.show_own else judgement(result),
                unsure=result.unsure,
                confidence=result.confidence,
                kinds=result.kinds,
                search=" ".join([result.path, result.text, *(candidate.text for candidate in others), *keywords]),
                path=result.path,
                name="/".join(Path(result.path).parts[-2:]),
            )
        )
        self.written += 1

    def add(self, text: str) -> None:
        """Add text to the page; bytes of file names that are not UTF-8 become a mark.

        Raises OutputError, after which there is no page.
        """
        try:
            self.file.write(re.sub("[\ud800-\udfff]", "\ufffd", text))
        except OSError as error:
            self.file.discard()
            raise OutputError(self.path, error) from None

    def size(self) -> str:
        """Return the page's size so far, as `23 kB` or `1.4 MB`."""
        thousands = self.file.file.tell() / 1e3
        return f"{thousands:.0f} kB" if thousands < 1000 else f"{thousands / 1e3:.1f} MB"

    def close(self) -> None:
        """Complete the page and put it in place, unless no image came.

        Raises OutputError.
        """
        if self.file.file.closed or not (self.written or self.failures):
            self.file.discard()
            return
        try:
            with self.file:
                for piece in self.pieces:
                    self.add(piece)
        except OSError as error:
            raise OutputError(self.path, error) from None
