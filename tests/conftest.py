"""Small models, made here, that every test can afford."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from capcli.model import CaptionModel, ModelConfig
from capcli.vocabulary import SPECIAL_WORDS, Vocabulary

PHOTOS = Path(__file__).parent / "photos"
TINY = ModelConfig(
    image_size=64, hidden_size=16, embedding_size=16, attention_size=16, beam=3, max_length=6, length_penalty=0.7
)
WORDS = (*SPECIAL_WORDS, "a", "cat", "dog", "man", "'s", "on", "grass", "t-shirt")


@pytest.fixture
def tiny_model() -> CaptionModel:
    """A captioner with random weights whose words depend on the picture."""
    torch.manual_seed(7)
    model = CaptionModel(TINY, Vocabulary(WORDS)).eval()
    # Statistics of some noise, and larger weights, or every picture would get the same words.
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1
    with torch.no_grad():
        model.encoder.train()(torch.rand(16, 3, 1, 1) * torch.rand(16, 3, 64, 64) * 255)
    for parameter in model.decoder.parameters():
        parameter.data.mul_(4)
    model.eval()
    return model


@pytest.fixture
def tiny_checkpoint(tiny_model: CaptionModel, tmp_path: Path) -> Path:
    """That model in a folder."""
    folder = tmp_path / "tiny"
    tiny_model.save(folder)
    return folder
