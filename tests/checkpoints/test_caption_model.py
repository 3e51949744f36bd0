"""A model is saved and comes back, whole or at half precision."""

from __future__ import annotations

from pathlib import Path

import torch

from capcli.checkpoints.caption_model import CaptionModel


def test_what_is_saved_comes_back(tiny_model: CaptionModel, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path / "new" / "folder")
    loaded = CaptionModel.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == tiny_model.config
    assert loaded.vocabulary.words == tiny_model.vocabulary.words
    assert not loaded.training
    before, after = tiny_model.state_dict(), loaded.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) for n in before if not n.endswith("num_batches_tracked"))
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "vocabulary.json",
    ]  # fmt: skip


def test_half_precision_is_half_the_size_and_loads_as_float32(tiny_model: CaptionModel, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path / "whole")
    tiny_model.save_pretrained(tmp_path / "half", dtype=torch.float16)
    whole, half = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half"))
    assert half < 0.52 * whole
    loaded = CaptionModel.load(tmp_path / "half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_model_outlives_its_file(tiny_copy: Path) -> None:
    loaded = CaptionModel.load(tiny_copy)
    before = loaded.decoder.output_bias.sum().item()
    weights = tiny_copy / "model.safetensors"
    weights.write_bytes(b"\0" * weights.stat().st_size)  # in place: a mapped tensor would change with it
    assert loaded.decoder.output_bias.sum().item() == before
