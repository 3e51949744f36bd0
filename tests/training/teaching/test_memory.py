"""What a checkpoint remembers of its training photos."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import MEMORY_FILE, ModelError
from capcli.training.data.datasets import Photo
from capcli.training.teaching.memory import read_memory, write_memory


def test_memory_is_read_as_it_was_written(tiny_model: CaptionModel, photos: list[Photo], tmp_path: Path) -> None:
    write_memory(tmp_path, tiny_model, photos, torch.device("cpu"), 1)
    memory = read_memory(tmp_path, tiny_model)
    assert memory.annotations.shape == (8, 4, 1280)
    vectors = memory.annotations.mean(1)
    assert torch.nn.functional.cosine_similarity(vectors, memory.global_vector).min() > 0.99
    again = tmp_path / "again"
    again.mkdir()
    write_memory(again, tiny_model, photos, torch.device("cpu"), 1)
    assert (again / MEMORY_FILE).read_bytes() == (tmp_path / MEMORY_FILE).read_bytes()


@pytest.mark.parametrize("what", ["cut off", "another encoder", "a pickle"])
def test_a_bad_memory_costs_a_line(tiny_model: CaptionModel, photos: list[Photo], tmp_path: Path, what: str) -> None:
    write_memory(tmp_path, tiny_model, photos[:2], torch.device("cpu"), 1)
    path = tmp_path / MEMORY_FILE
    if what == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    elif what == "a pickle":
        torch.save({}, path)
    else:
        next(tiny_model.encoder.parameters()).data += 1
    said = {"another encoder": "made with another encoder", "a pickle": "not a safetensors file"}
    with pytest.raises(ModelError, match=said.get(what, "damaged or cut off")) as e:
        read_memory(tmp_path, tiny_model)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": lambda mean: mean * torch.nan}, "holds values that no photo has"),
        ({"scales": lambda scales: scales * 1e30}, "holds values that no photo has"),
        ({"vector_scales": lambda scales: scales * 1e30}, "holds values that no photo has"),
        ({"vector_scales": lambda scales: scales * torch.nan}, "holds values that no photo has"),
        ({"codes": lambda codes: codes[:0], "vector_codes": lambda codes: codes[:0]}, "not the memory of"),
        ({"codes": lambda codes: codes[:1]}, "not the memory of"),
        ({"basis": lambda basis: basis[:-1]}, "not the memory of"),
        ({"codes": lambda codes: codes.flatten()}, "damaged or cut off"),
    ],
)
def test_a_memory_that_no_encoder_wrote_costs_a_line(
    tiny_model: CaptionModel,
    photos: list[Photo],
    tmp_path: Path,
    changes: dict[str, Callable[[torch.Tensor], torch.Tensor]],
    said: str,
) -> None:
    write_memory(tmp_path, tiny_model, photos[:2], torch.device("cpu"), 1)
    path = tmp_path / MEMORY_FILE
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        head = file.metadata()
    tensors |= {name: change(tensors[name]).contiguous() for name, change in changes.items()}
    save_file(tensors, path, head)
    with pytest.raises(ModelError, match=f"{MEMORY_FILE}: {said}"):
        read_memory(tmp_path, tiny_model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_no_memory(tiny_model: CaptionModel, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MEMORY_FILE)
    with pytest.raises(ModelError, match=f"no {MEMORY_FILE}"):
        read_memory(tmp_path, tiny_model)
