"""The text to write for a caption, as `{caption}, photo`."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from capcli.outputs.existing import EDGES, HOLE, SEPARATOR
from capcli.results import ImageError

MISFIT = "the template cannot be filled in for it"


class Date:
    """Format a date as strftime does, `2000-01-31` unless told otherwise, and no date as nothing."""

    def __init__(self, when: datetime | None) -> None:
        self.when = when

    def __format__(self, form: str) -> str:
        """Return the date as text."""
        return self.when.strftime(form or "%Y-%m-%d") if self.when else ""


class Template:
    """Fill in a text that the user gave."""

    def __init__(self, text: str = "{caption}") -> None:
        """Check a template.

        text: as for str.format, with the fields caption, keywords, score, log_prob, path, name (of the file, without
            its ending), folder (the name of the one that the file is in), date (when the photo was taken, by its EXIF;
            its format is strftime's) and existing (the text that is there already).

        Raises ValueError, KeyError or IndexError for any other field, or a format that does not suit its field.
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
        except Exception as error:  # of many kinds, and of none that says more
            raise ValueError(str(error) or type(error).__name__) from None

    def fill(
        self, path: str, candidate: Any, escape: Callable[[str], str] = str, keywords: Iterable[str] | None = None
    ) -> str:
        """Return the text for a candidate, with a HOLE where the text is to go that is there already.

        path: of its image.
        candidate: or a caption, whose best candidate is meant.
        escape: makes of a name and a path what the text shows.
        keywords: of the image; None for none.

        Raises ImageError if a field is used as the format of another, and is not a format.
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


CAPTION_ALONE = Template()
