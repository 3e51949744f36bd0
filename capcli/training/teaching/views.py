"""The features of photos to be taught, from several views of each."""

from __future__ import annotations

import torch
from rich.console import Console

from capcli.checkpoints.caption_model import CaptionModel
from capcli.model.encoders import Features
from capcli.progress import progress
from capcli.training.data.datasets import Photo
from capcli.training.data.features import encode_views

VIEWS = 2  # of each photo: itself and its mirror image


def encode(console: Console, model: CaptionModel, photos: list[Photo]) -> Features:
    """Return features of each photo's VIEWS views, with a progress bar. Raises ImageError."""
    size, parts = model.config.image_size, []
    with progress(console, "encoding photos", VIEWS * len(photos), "views") as advance:
        for features in encode_views(model.encoder, photos, VIEWS, size, torch.device("cpu"), "fp32"):
            parts.append(features)
            advance(len(features.global_vector))
    # Cloned, as inference-mode tensors cannot be trained on.
    features = Features.join(parts)
    return Features(features.annotations.clone(), features.global_vector.clone())
