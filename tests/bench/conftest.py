from pathlib import Path

import pytest
import torch
from fakes import PHOTOS

from capcli.bench import measuring
from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine


@pytest.fixture
def result(tiny_model: CaptionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(measuring, "SECONDS", 0.05)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    paths = [*map(str, sorted(PHOTOS.glob("*.jpg"))), str(tmp_path / "bad.jpg")]
    return measuring.measure(Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32")), paths, 2)
