"""Fitting the head that names kinds, and the file that it is kept in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from capcli.checkpoints.kinds import KINDS_FILE, kinds_metadata, read_kinds
from capcli.checkpoints.store import ModelError
from capcli.model.kinds import Kinds, Named
from capcli.training.learning.kinds import imagenet_names, ridge

HEAD = Kinds(
    (Named("cat", ("kitten",), (0, 1)),),
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array([1, 2], np.float32),
)


def write(folder: Path, head: Kinds = HEAD, metadata: dict[str, str] | None = None) -> None:
    save_file({"weight": head.weight, "bias": head.bias}, folder / KINDS_FILE, metadata or kinds_metadata(head))


def test_ridge_finds_a_linear_map() -> None:
    torch.manual_seed(1)
    inputs, true = torch.randn(4000, 8), torch.randn(3, 8)
    weight, bias = ridge(inputs + 5, inputs @ true.T + 2)
    torch.testing.assert_close(weight, true, atol=0.02, rtol=0)
    torch.testing.assert_close((inputs + 5) @ weight.T + bias, inputs @ true.T + 2, atol=0.1, rtol=0)


def test_every_class_has_at_most_one_name() -> None:
    names = imagenet_names()
    classes = [index for name in names for index in name.classes]
    assert max(classes) == 999
    assert len(classes) == len(set(classes)) > 850
    assert len({name.name for name in names}) == len(names)
    assert all(name.name not in name.broader for name in names)


def test_a_written_head_is_read_back(tmp_path: Path) -> None:
    assert read_kinds(tmp_path, 3) is None
    write(tmp_path)
    found = read_kinds(tmp_path, 3)
    assert found is not None
    assert found.names == HEAD.names
    np.testing.assert_array_equal(found.weight, HEAD.weight)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"names": "{", "classes": "2"},
        {"names": '[["cat", [], [2]]]', "classes": "2"},
        {"names": '[["cat", [], [-1]]]', "classes": "2"},
        {"names": '[["", [], [0]]]', "classes": "2"},
        {"names": '[["a\\nb", [], [0]]]', "classes": "2"},
        {"names": "[" * 5000, "classes": "2"},
        {"names": "[]", "classes": "many"},
        {"names": "[]", "classes": str(10**12)},
    ],
)
def test_a_head_without_proper_names_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    write(tmp_path, metadata={"format": "np"} | metadata)
    with pytest.raises(ModelError, match=r"kinds\.safetensors: does not say"):
        read_kinds(tmp_path, 3)


def test_a_head_of_another_encoder_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ModelError, match="tensor weight has shape"):
        read_kinds(tmp_path, 4)
    (tmp_path / KINDS_FILE).write_bytes(b"not a file of tensors")
    with pytest.raises(ModelError, match="kinds"):
        read_kinds(tmp_path, 3)
