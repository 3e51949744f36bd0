"""Files that are somebody's, and are to be written into: which of them may be, and where they lie."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from capcli.files import is_writable

FOLDER_READ_ONLY = "no file can be put into its folder"
READ_ONLY = "it is read-only"
HARD_LINKED = "it has other hard links, which would keep the old content; left as it is"
LEADS_OUT = "it is a link that leads out of the folder; name the file that it leads to"


class UntouchableError(Exception):
    """A file that is left as it is; str() says why."""


def original(path: str, folders: Iterable[str] = ()) -> Path:
    """Return the file that a path leads to, which may be absent yet.

    A link is followed within its own folder and the folders given, those that the user named: what lies elsewhere was
    not meant. As a new file takes the place of the old one, hard links would be split. Raises UntouchableError, and
    OSError for what cannot be looked at.
    """
    target = Path(os.path.realpath(path))
    if os.path.islink(path):
        inside = (os.path.dirname(path) or os.curdir, *folders)
        if not any(target.is_relative_to(os.path.realpath(folder)) for folder in inside):
            raise UntouchableError(LEADS_OUT)
    if not is_writable(os.path.dirname(target)):
        raise UntouchableError(FOLDER_READ_ONLY)
    try:
        status = os.stat(target)
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise UntouchableError("not a regular file")
    if not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):  # which does not hold root back
        raise UntouchableError(READ_ONLY)
    if not os.access(target, os.W_OK):
        raise UntouchableError("permission denied")
    if status.st_nlink > 1:
        raise UntouchableError(HARD_LINKED)
    return target


def folders_of(arguments: list[str]) -> list[str]:
    """Return the folders that command line arguments stand for: themselves, or those that a file or glob lies in."""
    folders = []
    for argument in arguments:
        folder = os.path.abspath(argument)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        folders.append(folder)
    return folders
