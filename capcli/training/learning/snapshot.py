"""What a run writes after each epoch: last.safetensors, from which it can be resumed, and log.jsonl for people."""

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
from capcli.training.learning.setup import Setup

LAST_FILE = "last.safetensors"
LOG_FILE = "log.jsonl"
Log = list[dict[str, Any]]  # one row per epoch, as `curves` shows them


def best_cider(log: Log) -> float:
    """Return the highest mean CIDEr on dev photos so far; −∞ before the first epoch."""
    return max((row["cider"] for row in log), default=-math.inf)


def write_log(folder: Path, log: Log) -> None:
    """Write log.jsonl, one line per epoch. Raises OSError.

    What the page shows of photos stays in the snapshot: heat is not for people to read.
    """
    rows = [{name: value for name, value in row.items() if name != "examples"} for row in log]
    write_whole(folder / LOG_FILE, "".join(json.dumps(row) + "\n" for row in rows).encode())


def write_snapshot(folder: Path, setup: Setup, log: Log) -> None:
    """Write all that a resumed run needs into a single file, so that it is never half new, and then the log.

    folder: of the run.
    setup: of the run, as it is after the epoch.
    log: with a row for the epoch that has just ended.

    Raises OSError, after which the previous snapshot is still there.
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
    """Restore a run as it was after its last finished epoch, and return its log.

    folder: of the run.
    setup: of a run with the same options, as it is before the first epoch.

    Raises DataError if the run was started with other options or data, or its file is damaged; and OSError.
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
    """Raise DataError unless the run in a folder was started with the same options and data. record: the snapshot's."""
    options = dataclasses.asdict(setup.options)
    # The snapshots of older versions do not have the options that came later.
    before = {field.name: field.default for field in dataclasses.fields(setup.options) if field.name != "data"}
    for name, value in (before | record["options"] | {"allow_outside": setup.options.allow_outside}).items():
        if options[name] != (tuple(value) if isinstance(value, list) else value):  # JSON has no tuples
            raise DataError(f"{folder}: was started with {name} {value!r}; it cannot be resumed with {options[name]!r}")
    # The snapshots of older versions do not have these digests.
    for what, digest in record.get("begun_with", {}).items():
        if setup.begun_with[what] != digest:
            raise DataError(
                f"{folder / LAST_FILE}: was started with other {what}; restore them, or name another folder"
            )
