"""The user's files that captions go into: which may be changed, and where they really are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from capcli.files import is_writable

FOLDER_READ_ONLY = "its folder cannot be written to"
READ_ONLY = "it is read-only"
HARD_LINKED = "it has other hard links, which would keep the old content; left as it is"
LEADS_OUT = "it is a link to a file outside the folder; name that file itself"


class UntouchableError(Exception):
    """Report a user's file that must not be changed; str() says why."""


def original(path: str, folders: Iterable[str] = ()) -> Path:
    """Return the file that a path leads to, if it may be changed.

    Links are followed only into their own folder and those that the user named, as no other file was meant. Hard links
    are refused: a new file replaces the old, and other names would keep the old content.

    path: need not exist.

    Raises UntouchableError if it must not be changed, OSError if it cannot be examined.
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
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise UntouchableError("not a regular file")
    check_permission(target, status)
    if status.st_nlink > 1:
        raise UntouchableError(HARD_LINKED)
    return target


def check_permission(path: str | os.PathLike[str], status: os.stat_result) -> None:
    """Raise UntouchableError for a protected file, which a replacement would get around.

    status: of the file.
    """
    if not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):  # os.access would let root write
        raise UntouchableError(READ_ONLY)
    if not os.access(path, os.W_OK):
        raise UntouchableError("permission denied")


def folders_of(arguments: list[str]) -> list[str]:
    """Return the folders that the user named.

    arguments: folders, and files and globs, which stand for the folders they are in.
    """
    folders = []
    for argument in arguments:
        folder = os.path.abspath(argument)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        folders.append(folder)
    return folders
