"""What `train`, `teach` and `agree` share: the command line for the model card, and what goes wrong as a line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from capcli.cli.messages import fail


def typed_command(name: str, *before: str) -> str | None:
    """Return the command line that was typed; None where the command was called in another way.

    name: of the command.
    before: what stands before `capcli` in it.
    """
    return shlex.join([*before, "capcli", *sys.argv[1:]]) if sys.argv[1:2] == [name] else None


@contextmanager
def failures_told(stop: Callable[[object], NoReturn] = fail) -> Iterator[None]:
    """Turn what can go wrong in training into one line, in a `with` block. stop: writes it, and exits."""
    try:
        from capcli.checkpoints.store import ModelError
        from capcli.files import OutputError
        from capcli.results import ImageError
        from capcli.training.datasets import DataError

        yield
    except ImportError as error:
        if error.name in ("torch", "torchvision"):
            raise  # for main, which says how to install them
        stop(f"training needs the extra packages: pip install 'capcli[train]' ({error})")
    except (DataError, ImageError, ModelError, ValueError) as error:
        stop(error)
    except OSError as error:
        stop(OutputError(error.filename, error) if error.filename else error)
