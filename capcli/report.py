"""Captions and attention as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
import json
import math
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.files import WholeFile
from capcli.heatmaps import OverlayOptions, color_table, heatmaps, strongest_place
from capcli.images import ImageError, open_upright

if TYPE_CHECKING:
    from torch import Tensor

    from capcli.captioner import Candidate, Caption

TEMPLATE = Path(__file__).with_name("report.html")
THUMBNAIL, QUALITY = 320, 72  # longest side in pixels, JPEG quality


class HtmlReport:
    """A page that grows image by image and takes its place at `path` once it is complete.

    Pictures are embedded as small JPEGs, attention as a byte per cell, so the page needs nothing outside itself.
    """

    def __init__(self, path: Path, options: OverlayOptions, num: int = 1) -> None:
        """num: candidates per image. Raises OSError."""
        self.path, self.options, self.num = path, options, num
        self.failures: list[ImageError] = []
        self.written = 0
        template = TEMPLATE.read_text("utf-8")
        template = template.replace("/*colors*/[]", json.dumps(color_table(options.style)))
        template = template.replace("CHECKED", " checked" if options.scale == "caption" else "")
        head, self.tail = template.split("<!-- captions -->\n")
        self.file = WholeFile(path)
        self.file.write(head)

    def write(self, result: Caption | ImageError) -> None:
        """Add a caption, or keep a failure for the list at the end. Raises ImageError if the image is gone."""
        if isinstance(result, ImageError):
            self.failures.append(result)
            return
        try:
            photo = open_upright(result.path, THUMBNAIL)
        except ImageError as error:
            self.failures.append(error)
            raise
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=QUALITY, optimize=True)
        candidates = result.candidates[: self.num]
        search = " ".join([printable(result.path), result.text, *(candidate.text for candidate in candidates[1:])])
        self.file.write(
            f'<li class="card" data-search="{escape(search)}"><div class="view"><div class="frame" '
            f'style="--shape:{photo.width / photo.height:.4f}">'
            f'<img src="data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}" '
            f'alt="{escape(result.text)}" width="{photo.width}" height="{photo.height}" '
            f'loading="lazy" decoding="async"></div></div>'
            f'<div class="text">{self.sentence(result, "p")}{self.others(candidates)}'
            f'<p class="status" aria-hidden="true"></p>'
            f'<p class="path" title="{escape(printable(result.path))}">{escape(short(printable(result.path)))}</p>'
            f"</div></li>\n"
        )
        self.written += 1

    def others(self, candidates: tuple[Candidate, ...]) -> str:
        """The candidates after the first with their scores."""
        if len(candidates) < 2:
            return ""
        rows = "".join(
            f'<li><span class="score">{candidate.score:.2f}</span>{self.sentence(candidate, "span")}</li>'
            for candidate in candidates[1:]
        )
        return f'<ul class="others" aria-label="other captions">{rows}</ul>'

    def sentence(self, candidate: Candidate, tag: str) -> str:
        """A sentence, each word a button that carries its heat."""
        if candidate.attention is None:
            return f'<{tag} class="caption">{escape(candidate.text)}</{tag}>'
        rows, columns = candidate.attention.shape[1:]
        own, shared = heatmaps(candidate, "word"), heatmaps(candidate, "caption")
        buttons: list[str] = []
        for word, log_prob, heat, strength in zip(
            candidate.words, candidate.word_log_probs, own, shared.amax((1, 2)).tolist(), strict=False
        ):
            buttons.append("" if not buttons or word.startswith("'") else " ")
            buttons.append(
                f'<button type="button" class="w" data-heat="{pack(heat)}" data-strength="{strength:.3f}" '
                f'aria-description="{math.exp(log_prob):.0%}, looks at the {where(heat, candidate.cell_offset)}">'
                f"{escape(word)}</button>"
            )
        return (
            f'<{tag} class="caption" data-grid="{rows},{columns}" data-offset="{candidate.cell_offset:g}" '
            f'data-smooth="{self.options.smooth:d}">{"".join(buttons)}</{tag}>'
        )

    def close(self) -> None:
        """Complete the page with what there is and put it in its place; without a row in it there is no page. Raises
        OSError."""
        if not self.written and not self.failures:
            self.file.discard()
            return
        rows = "".join(f"<li>{escape(printable(str(error)))}</li>" for error in self.failures)
        listed = f'<section id="failures"><h2>Could not be read</h2><ul>{rows}</ul></section>' if rows else ""
        pictures = "1 picture" if self.written == 1 else f"{self.written} pictures"
        summary = f"{pictures}, {self.file.file.tell() / 1e6:.1f} MB in one file. Made with capcli."
        with self.file:
            self.file.write(self.tail.replace("<!-- failures -->", listed).replace("<!-- summary -->", summary))


def pack(heat: Tensor) -> str:
    """Heat in 0 … 1 as a byte per cell, row by row, in Base64."""
    return base64.b64encode(bytes((heat * 255).round().int().flatten().tolist())).decode()


def where(heat: Tensor, offset: float) -> str:
    """The strongest place in words."""
    x, y = strongest_place(heat, offset)
    vertical = ("top", "middle", "bottom")[min(2, int(3 * y))]
    horizontal = ("left", "centre", "right")[min(2, int(3 * x))]
    return "centre" if vertical == "middle" and horizontal == "centre" else f"{vertical} {horizontal}"


def short(path: str) -> str:
    """A file's name and its folder's."""
    return "/".join(Path(path).parts[-2:])


def printable(text: str) -> str:
    """Text in which bytes of a file name that are not UTF-8 are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
