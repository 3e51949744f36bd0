"""The text to write for a caption, as `{caption}, photo`."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterable
from typing import Any

from capcli.outputs.existing import SEPARATOR
from capcli.results import ImageError

MISFIT = "the template cannot be filled in for it"


class Template:
    """Fill in a text that the user gave."""

    def __init__(self, text: str = "{caption}") -> None:
        """Check a template.

        text: as for str.format, with the fields caption, keywords, score, log_prob, path and name (of the file,
            without its ending).

        Raises ValueError, KeyError or IndexError for any other field, or a format that does not suit its field.
        """
        self.text = text
        fields = {"caption": "", "keywords": "", "score": 0.0, "log_prob": 0.0, "path": "", "name": ""}
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
        """Return the text for a candidate.

        path: of its image.
        candidate: or a caption, whose best candidate is meant.
        escape: makes of a name and a path what the text shows.
        keywords: of the image; None for none.

        Raises ImageError if a field is used as the format of another, and is not a format.
        """
        try:
            return self.text.format(
                caption=candidate.text,
                keywords=SEPARATOR.join(keywords or ()),
                score=candidate.score,
                log_prob=candidate.log_prob,
                path=escape(path),
                name=escape(os.path.splitext(os.path.basename(path))[0]),
            )
        except ValueError as error:
            raise ImageError(path, f"{MISFIT}: {error}", MISFIT) from None


CAPTION_ALONE = Template()
