"""A run's files after each epoch: last.safetensors, to resume from, and log.jsonl for people."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from capcli.files import write_whole
from capcli.training.data.datasets import DataError
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.setup import Setup

LAST_FILE = "last.safetensors"
LOG_FILE = "log.jsonl"
Log = list[dict[str, Any]]  # one row per epoch, as `curves` shows it


def best_cider(log: Log) -> float:
    """Return the highest mean dev CIDEr so far; −∞ before the first epoch."""
    return max((row["cider"] for row in log), default=-math.inf)


def is_over(log: Log, options: TrainOptions) -> bool:
    """Return whether a run has had its last epoch: the options' last, or `patience` epochs since the best."""
    ciders = [row["cider"] for row in log]
    since = ciders[::-1].index(max(ciders)) if ciders else 0  # a tie is as good: the last is kept
    return len(log) >= options.epochs or (options.patience is not None and since >= options.patience)


def write_log(folder: Path, log: Log) -> None:
    """Write log.jsonl, one line per epoch, without examples. Raises OSError."""
    # Examples stay in the snapshot: heat is not for people to read.
    rows = [{name: value for name, value in row.items() if name != "examples"} for row in log]
    write_whole(folder / LOG_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())


def write_snapshot(folder: Path, setup: Setup, log: Log) -> None:
    """Write all that resuming needs into one file, never half new, and then the log.

    folder: the run's.
    setup: as it is after the epoch.
    log: with a row for the finished epoch.

    Raises OSError, leaving the previous snapshot.
    """
    tensors = {f"model.{name}": tensor for name, tensor in setup.trained.state_dict().items()}
    for index, values in setup.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    record = {
        "options": dataclasses.asdict(setup.options),
        "begun_with": setup.begun_with,
        "epoch": len(log),
        "best": best_cider(log),
        "log": log,
    }
    tensors["baseline"] = setup.baseline.means
    if setup.average:
        record["updates"] = setup.average.updates
        tensors |= {f"average.{index}": mean for index, mean in enumerate(setup.average.tensors)}
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(folder / LAST_FILE, save(content, metadata={"run": json.dumps(record)}))
    write_log(folder, log)


def read_snapshot(folder: Path, setup: Setup) -> Log:
    """Restore a run's weights, optimizer, average and baseline after its last finished epoch, and return its log.

    folder: the run's.
    setup: with the same options, before the first epoch.

    Raises DataError for other options or data or a damaged file, and OSError.
    """
    path = folder / LAST_FILE
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("not a file")
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()["run"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it to start over") from None
    check_alike(folder, setup, record)
    setup.trained.load_state_dict(
        {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
    setup.optimizer.load_state_dict(setup.optimizer.state_dict() | {"state": state})
    if setup.average:
        means = [tensors[f"average.{index}"] for index in range(len(setup.average.tensors))]
        setup.average.restore(means, record["updates"])
    setup.baseline.means = tensors["baseline"]
    log: Log = record["log"]
    return log


def check_alike(folder: Path, setup: Setup, record: dict[str, Any]) -> None:
    """Raise DataError unless a folder's run began with the same options and data. record: the snapshot's."""
    options = dataclasses.asdict(setup.options)
    # Older snapshots lack newer options.
    before = {field.name: field.default for field in dataclasses.fields(setup.options) if field.name != "data"}
    for name, value in (before | record["options"] | {"allow_outside": setup.options.allow_outside}).items():
        if options[name] != (tuple(value) if isinstance(value, list) else value):  # JSON has no tuples
            raise DataError(f"{folder}: was started with {name} {value!r}; it cannot be resumed with {options[name]!r}")
    # Older snapshots lack these digests.
    for what, digest in record.get("begun_with", {}).items():
        if setup.begun_with[what] != digest:
            raise DataError(
                f"{folder / LAST_FILE}: was started with other {what}; restore them, or name another folder"
            )
