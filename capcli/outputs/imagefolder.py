"""Captions as a photo folder's `metadata.jsonl`, which Hugging Face's ImageFolder and trainers read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from capcli.outputs.rows import Layout, Rows, is_encodable, worded_row
from capcli.results import ImageError

if TYPE_CHECKING:
    from capcli.results import Caption

FILE = "metadata.jsonl"
ELSEWHERE = "not below the folder of the output, as ImageFolder requires"
NOT_TEXT = "its name or text is not UTF-8, which ImageFolder requires"


class ImageFolderRows(Rows):
    """Write a line `{"file_name", "text"}` for each captioned image, with its name relative to the file's folder.

    Images without a caption get no line: a loader would read an empty one.
    """

    name = "imagefolder"
    endings = ()
    resumable = True
    streams = False
    templated = True
    joins = True

    def name_of(self, image: str) -> str:
        """Return an image's name in the file. Raises ImageError if it is not below the file's folder."""
        for resolve in (os.path.abspath, os.path.realpath):
            folder, path = resolve(os.path.dirname(os.path.abspath(self.path))), resolve(image)
            if os.path.splitdrive(folder)[0] == os.path.splitdrive(path)[0]:
                below = os.path.relpath(path, folder)
                if below.split(os.sep)[0] != os.pardir:
                    return below.replace(os.sep, "/")
        raise ImageError(image, ELSEWHERE)

    def place_of(self, name: str) -> str:
        """Return the name, which does not depend on the path's spelling."""
        return name

    def wants(self, image: str) -> bool | None:
        """Return False for an image that has its row, otherwise None. Raises ImageError if it can have none."""
        if not is_encodable(self.name_of(image)):
            raise ImageError(image, NOT_TEXT)
        return super().wants(image)

    def write(self, result: Caption | ImageError) -> None:
        """Add a caption's row, unless its image has one. Raises ImageError and OutputError."""
        if not isinstance(result, ImageError):
            super().write(result)

    def row(self, result: Caption | ImageError) -> str:
        return self.encode(worded_row(result, self.layout))

    def encode(self, row: dict[str, Any]) -> str:
        """Return a line, or nothing for a failure or without a caption. Raises ImageError."""
        texts = [each["caption"] for each in row.get("candidates", [row])[: self.layout.num] if each.get("caption")]
        if not texts or self.leaves_out(row):
            return ""
        line = {"file_name": self.name_of(row["path"]), "text": self.layout.separator.join(texts)}
        text = json.dumps(line, ensure_ascii=False) + "\n"
        if not is_encodable(text):
            raise ImageError(row["path"], NOT_TEXT)
        return text

    @classmethod
    def beginning(cls, layout: Layout) -> bytes:
        return b'{"file_name": "'

    @classmethod
    def read_row(cls, record: bytes, layout: Layout) -> dict[str, Any]:
        """Return a line as a row with the image's name in the file as path; see `Rows.read_row`."""
        row = json.loads(record)
        if not (isinstance(row["file_name"], str) and isinstance(row["text"], str)):
            raise ValueError
        return {"path": row["file_name"], "caption": row["text"]}
