from pathlib import Path

import pytest
import torch
from PIL import Image

from capcli.bench import measuring
from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine


def test_every_stage_is_measured(result: dict) -> None:
    assert result["images"] == 3
    assert [line.rpartition("/")[2] for line in result["failed"]] == [
        "bad.jpg: not an image in a format that can be read"
    ]
    assert set(result["images_per_second"]) == {*measuring.STAGES, "together"}
    assert all(rate > 0 for rate in result["images_per_second"].values())
    seconds = {stage: 1 / result["images_per_second"][stage] for stage in measuring.STAGES}
    for stage in measuring.STAGES:
        assert result["shares"][stage] == pytest.approx(seconds[stage] / sum(seconds.values()))
    assert result["bound"] == max(seconds, key=seconds.__getitem__)
    assert torch.get_num_threads() == result["cores"]  # as it was


def test_made_images_differ(tmp_path: Path) -> None:
    paths = measuring.make_images(tmp_path, 3)
    assert [Image.open(path).size for path in paths] == [measuring.MADE_SIZE] * 3
    assert len({Path(path).read_bytes() for path in paths}) == 3


def test_nothing_to_read(tiny_model: CaptionModel, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    result = measuring.measure(Captioner(TorchEngine(tiny_model, torch.device("cpu"))), [str(tmp_path / "bad.jpg")], 2)
    assert len(result.pop("failed")) == 1
    assert not result
