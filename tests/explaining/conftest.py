import pytest
import torch

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine


@pytest.fixture
def captioner(tiny_model: CaptionModel) -> Captioner:
    return Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))
