"""The wording of a caption, such as `{caption}, photo`."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from capcli.outputs.existing import EDGES, HOLE, SEPARATOR
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption

MISFIT = "the template cannot be filled in for it"


class Date:
    """Format a date by strftime, `2000-01-31` by default, and no date as nothing."""

    def __init__(self, when: datetime | None) -> None:
        self.when = when

    def __format__(self, form: str) -> str:
        return self.when.strftime(form or "%Y-%m-%d") if self.when else ""


class Template:
    """Fill in a text from the user."""

    def __init__(self, text: str = "{caption}") -> None:
        """Check a template.

        text: as for str.format, with the fields caption, keywords, score, log_prob, path, name (of the file, without
            ending), folder (its folder's name), date (when taken, by EXIF, formatted by strftime) and existing (the
            text already there).

        Raises ValueError, KeyError or IndexError for other fields, or a format that does not suit its field.
        """
        self.text = text
        fields: dict[str, Any] = dict.fromkeys(("caption", "keywords", "path", "name", "folder", "existing"), "")
        fields |= {"score": 0.0, "log_prob": 0.0, "date": Date(datetime(2000, 1, 1))}
        self.fields = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
        for name in self.fields:
            if name not in fields:
                raise ValueError(f"unknown field {{{name}}}; there are {', '.join(f'{{{field}}}' for field in fields)}")
        try:
            text.format(**fields)
        except Exception as error:  # of any kind, none more telling
            raise ValueError(str(error) or type(error).__name__) from None

    def fill(
        self, path: str, candidate: Any, escape: Callable[[str], str] = str, keywords: Iterable[str] | None = None
    ) -> str:
        """Return a candidate's text, with a HOLE for the existing text.

        path: of its image.
        candidate: or a caption, for its best one.
        escape: applied to name and path.
        keywords: of the image.

        Raises ImageError if a field is used as another's format, but is no format.
        """
        taken = None
        if "date" in self.fields:
            from capcli.images.taken import taken_at

            taken = taken_at(path)
        try:
            text = self.text.format(
                caption=candidate.text,
                keywords=SEPARATOR.join(keywords or ()),
                score=round(candidate.score, 4),  # as in rows
                log_prob=round(candidate.log_prob, 4),
                path=escape(path),
                name=escape(os.path.splitext(os.path.basename(path))[0]),
                folder=escape(os.path.basename(os.path.dirname(os.path.abspath(path)))),
                date=Date(taken),
                existing=HOLE,
            )
        except ValueError as error:
            raise ImageError(path, f"{MISFIT}: {error}", MISFIT) from None
        return text.strip(EDGES) if "date" in self.fields and taken is None else text

    def line(self, caption: Caption) -> str:
        """Return the text for a caption on one line, as metadata has it; see `fill`. Raises ImageError."""
        return " ".join(self.fill(caption.path, caption, keywords=caption.keywords).split())


CAPTION_ALONE = Template()
