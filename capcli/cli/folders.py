"""Folders that commands write into; existing files are not replaced unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from capcli.cli.messages import fail


def require_vacant(
    folder: Path,
    names: Iterable[str],
    stop: Callable[[object], NoReturn] = fail,
) -> None:
    """Stop with a line if a folder, which need not exist, holds one of these files.

    stop: prints the line, and exits.
    """
    for name in names:
        if os.path.lexists(folder / name):
            stop(f"{folder / name}: exists; name another folder")
