"""A checkpoint's optional file of kinds: a head and its names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from capcli.checkpoints.store import KINDS_FILE, ModelError, read_metadata, read_tensors
from capcli.model.kinds import Kinds, Named

NAMES, CLASSES = "names", "classes"  # keys of its metadata: [name, [broader, …], [class, …]] of each kind, as JSON
MOST_CLASSES = 100_000


def read_kinds(folder: Path, channels: int) -> Kinds | None:
    """Return a checkpoint's kinds, or None if it has none.

    channels: of the encoder's global vector.

    Raises ModelError for a file that is damaged or for another encoder.
    """
    path = folder / KINDS_FILE
    if not path.exists():
        return None
    metadata = read_metadata(path)
    try:
        names, classes = tuple(map(named, json.loads(metadata[NAMES]))), int(metadata[CLASSES])
        if not 0 < classes <= MOST_CLASSES or any(index >= classes for name in names for index in name.classes):
            raise ValueError("a class is not there")
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ModelError(f"{path}: does not say what its kinds are called") from None
    tensors = read_tensors(path, {"weight": (classes, channels), "bias": (classes,)}, 0)
    return Kinds(names, tensors["weight"], tensors["bias"])


def named(row: Any) -> Named:
    """Return a kind from JSON. Raises TypeError and ValueError if it isn't one."""
    name, broader, classes = row
    if not all(isinstance(text, str) and text.isprintable() and text.split() for text in (name, *broader)):
        raise ValueError("a name is no text")
    if not classes or not all(type(index) is int and index >= 0 for index in classes):
        raise ValueError("a class is no index")
    return Named(name, tuple(broader), tuple(classes))


def kinds_metadata(kinds: Kinds) -> dict[str, str]:
    """Return a file's metadata for these kinds."""
    rows = [[named.name, list(named.broader), list(named.classes)] for named in kinds.names]
    return {NAMES: json.dumps(rows), CLASSES: str(len(kinds.bias))}
