"""What `train`, `teach` and `agree` share: the card's command line, the output folder, errors as lines."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from capcli.cli.folders import require_vacant
from capcli.cli.messages import fail
from capcli.installing import install_line


def typed_command(name: str, *before: str) -> str | None:
    """Return the command line typed; None if the command was called otherwise.

    before: words before `capcli`.
    """
    return shlex.join([*before, "capcli", *sys.argv[1:]]) if sys.argv[1:2] == [name] else None


def require_room(folder: Path, names: Iterable[str] = (), stop: Callable[[object], NoReturn] = fail) -> None:
    """Stop with a line if a folder holds a checkpoint, or files that the new one would replace.

    What a run left that made no checkpoint does not count.

    folder: need not exist.
    names: files written besides the checkpoint.
    stop: prints the line, and exits.
    """
    from capcli.checkpoints.card import CARD_FILE
    from capcli.checkpoints.store import CHECKPOINT_FILES

    if all((folder / name).exists() for name in CHECKPOINT_FILES):
        stop(f"{folder}: holds a checkpoint; name another folder")
    written = (*CHECKPOINT_FILES, CARD_FILE, *names)
    require_vacant(folder, (name for name in written if not is_left_over(folder / name)), stop=stop)


def is_left_over(path: Path) -> bool:
    """Return whether a file begins like one that capcli writes before a checkpoint is complete."""
    from capcli.checkpoints.store import CONFIG_FILE, VOCABULARY_FILE, json_bytes
    from capcli.model.vocabulary import SPECIAL_WORDS

    beginnings = {
        CONFIG_FILE: b'{\n "format_version": ',
        VOCABULARY_FILE: json_bytes(SPECIAL_WORDS).rstrip(b"\n]"),
        "curves.html": b'<!doctype html>\n<html lang="en">\n<head>\n<meta name="generator" content="capcli">\n',
        "log.jsonl": b'{"epoch": 1, ',  # or nothing yet
    }
    beginning = beginnings.get(path.name)
    if beginning is None or not path.is_file():
        return False
    with path.open("rb") as file:
        found = file.read(len(beginning))
    return found == beginning or (not found and path.name == "log.jsonl")


@contextmanager
def failures_told(stop: Callable[[object], NoReturn] = fail) -> Iterator[None]:
    """Turn training errors in the `with` block into one line. stop: prints it, and exits."""
    try:
        from capcli.checkpoints.store import ModelError
        from capcli.files import OutputError
        from capcli.results import ImageError
        from capcli.training.data.datasets import DataError

        yield
    except ImportError as error:
        if error.name in ("torch", "torchvision"):
            raise  # for main, which says how to install them
        stop(f"training needs extra packages: {install_line('train')} ({error})")
    except (DataError, ImageError, ModelError, ValueError) as error:
        stop(error)
    except OSError as error:
        stop(OutputError(error.filename, error) if error.filename else error)
