import json
from pathlib import Path

import pytest
import torch

from capcli.model import CaptionModel, ModelConfig, ModelError


def test_saved_and_loaded_is_bit_equal(tiny_model: CaptionModel, tmp_path: Path) -> None:
    tiny_model.save(tmp_path)
    loaded = CaptionModel.load(tmp_path)
    assert loaded.config == tiny_model.config
    assert loaded.vocabulary.words == tiny_model.vocabulary.words
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    pixels = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded.encoder(pixels).annotations, tiny_model.encoder(pixels).annotations)


def test_half_precision_is_half_the_size(tiny_model: CaptionModel, tmp_path: Path) -> None:
    tiny_model.save(tmp_path / "full")
    tiny_model.save(tmp_path / "half", torch.float16)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.55 * sizes[0]
    assert all(p.dtype == torch.float32 for p in CaptionModel.load(tmp_path / "half").parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"hidden_size": "512"}, "hidden_size is '512'"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"encoder": "vgg"}, "encoder is 'vgg'"),
        ({"surprise": 1}, "unknown entry 'surprise'"),
        ({"hidden_size": 32}, "instead of"),
    ],
)
def test_a_wrong_config_is_one_line(tiny_checkpoint: Path, change: dict, message: str) -> None:
    path = tiny_checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=message) as caught:
        CaptionModel.load(tiny_checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "model.safetensors"])
def test_a_missing_or_cut_file_is_named(tiny_checkpoint: Path, name: str) -> None:
    path = tiny_checkpoint / name
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", None):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(ModelError, match=name):
            CaptionModel.load(tiny_checkpoint)
        path.write_bytes(content)


def test_the_grid_follows_from_image_and_stride() -> None:
    assert ModelConfig(image_size=224, encoder_stride=32).grid == (7, 7)
    assert ModelConfig(image_size=224, encoder_stride=16).grid == (14, 14)
    assert ModelConfig(image_size=260, encoder_stride=32).grid == (9, 9)
