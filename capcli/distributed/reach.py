"""Reaching listed names: files below a folder, and objects behind URLs, by fsspec."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

from capcli.images.decode import why_unreadable
from capcli.results import ImageError

PROTOCOL = re.compile("([a-z][a-z0-9+.-]*)://")
STORES = ("s3", "gs")
AT_ONCE = 16  # an actor's downloads, and images downloaded ahead


def protocol_of(path: str) -> str | None:
    """Return a URL's part before `://`, None for a file's path."""
    found = PROTOCOL.match(path)
    return found[1] if found else None


@functools.cache
def file_system(protocol: str) -> Any:
    """Return fsspec's file system for a protocol. Raises ImportError naming the package to install.

    Made from the protocol alone: a whole URL could chain others to it (`s3://a::https://b`).
    """
    import fsspec

    return fsspec.filesystem(protocol)


@dataclass(frozen=True)
class Reach:
    """Say where names lead.

    folder: where relative paths begin, the same on every machine.
    https: whether to fetch `https://` URLs.
    """

    folder: str
    https: bool = False

    def refusal(self, protocol: str) -> str | None:
        """Return why a protocol's URLs are not fetched, or None."""
        if protocol == "https" and not self.https:
            return "https:// is fetched with --allow-https only"
        if protocol not in (*STORES, "https"):
            return f"{protocol}:// is not fetched; known are {', '.join(f'{name}://' for name in (*STORES, 'https'))}"
        return None

    def place(self, path: str) -> str:
        return os.path.join(self.folder, path)

    def source(self, path: str) -> str | bytes | ImageError:
        """Return a name's image: an absolute path, a URL's content, or an error."""
        protocol = protocol_of(path)
        if protocol is None:
            return self.place(path)
        reason = self.refusal(protocol)
        if reason is None:
            try:
                return file_system(protocol).cat_file(path)
            except FileNotFoundError:
                reason = "no such file or directory"
            except Exception as error:  # each store has its own errors
                reason = why_unreadable(error)
        return ImageError(path, reason)

    def open(self, path: str) -> BinaryIO:
        """Open a file of many images. Raises OSError, and whatever a store raises."""
        protocol = protocol_of(path)
        if protocol is None:
            return open(self.place(path), "rb")
        if reason := self.refusal(protocol):
            raise OSError(0, reason)
        return file_system(protocol).open(path, "rb")
