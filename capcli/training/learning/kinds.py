"""Fitting the head that names kinds to ImageNet's classifier, on the checkpoint's encoder."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.kinds import KINDS_FILE, kinds_metadata
from capcli.files import write_whole
from capcli.model.encoders import EfficientNetLite2, Encoder, pretrained_weights
from capcli.model.kinds import Kinds, Named, read_names
from capcli.model.precision import choose_training_precision
from capcli.progress import progress
from capcli.training.data.datasets import DataError, Photo
from capcli.training.data.features import encode_views

NAMES_FILE = "imagenet_kinds.txt"
RIDGE = 10.0  # λ; with 100 the two agree as often, with 1,000 less
SURE = 0.3  # the probability at which ImageNet's classifier is worth agreeing with


def imagenet_names() -> tuple[Named, ...]:
    """Return everyday names of ImageNet's classes."""
    return read_names((resources.files("capcli.training.learning") / NAMES_FILE).read_text("utf-8").splitlines())


def write_kinds(
    console: Console, folder: Path, train: list[Photo], dev: list[Photo], device: torch.device
) -> float | None:
    """Fit a head to a checkpoint's encoder by ridge regression and write it beside the checkpoint.

    Returns the share of dev photos on which both name the same class, among those where ImageNet's classifier is at
    least SURE; None if there are none.

    folder: of a checkpoint with the encoder efficientnet_lite2.
    train: photos to fit to, of any kind; captions are not used.

    Raises DataError for another encoder, ImageError, OSError, and ImportError without the `train` extra.
    """
    from safetensors.torch import save

    model = CaptionModel.load(folder)
    if not isinstance(model.encoder, EfficientNetLite2):
        raise DataError(f"{folder}: kinds are fitted to the encoder efficientnet_lite2, not to {model.config.encoder}")
    weights = pretrained_weights("efficientnet_lite2")
    original = EfficientNetLite2(model.encoder.stride)
    original.load_pretrained(weights)
    size = model.config.image_size
    ours, theirs = (
        [vectors_of(console, encoder, photos, size, device) for photos in (train, dev)]
        for encoder in (model.encoder, original.eval())
    )
    logits = [vectors @ weights["_fc.weight"].T + weights["_fc.bias"] for vectors in theirs]
    weight, bias = ridge(ours[0], logits[0])
    head = Kinds(imagenet_names(), weight.numpy(), bias.numpy())
    tensors = {"weight": weight.half(), "bias": bias.half()}
    write_whole(folder / KINDS_FILE, save(tensors, metadata=kinds_metadata(head)))
    if not dev:
        return None
    sure = logits[1].softmax(1).amax(1) >= SURE
    same = (ours[1] @ weight.T + bias).argmax(1) == logits[1].argmax(1)
    return float(same[sure].float().mean()) if sure.any() else None


def vectors_of(console: Console, encoder: Encoder, photos: list[Photo], size: int, device: torch.device) -> Tensor:
    """Return photos' global vectors, (photos, channels), on the CPU. Raises ImageError."""
    encoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision, found = choose_training_precision("auto", device), [torch.empty(0, encoder.kind.global_size)]
    with progress(console, "encoding photos", len(photos), "photos") as advance:
        for features in encode_views(encoder, photos, 1, size, device, precision):
            found.append(features.global_vector.float().cpu())
            advance(len(features.global_vector))
    return torch.cat(found)


def ridge(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight, (targets, inputs), and bias, (targets,), of the linear map with least squared error and norm.

    inputs: (photos, channels).
    targets: (photos, classes).

    Source: Hoerl & Kennard 1970.
    """
    means = inputs.mean(0), targets.mean(0)
    centred = (inputs - means[0]).double()
    gram = centred.T @ centred + RIDGE * torch.eye(inputs.shape[1], dtype=torch.double)
    weight = torch.linalg.solve(gram, centred.T @ (targets - means[1]).double()).T.float()
    return weight, means[1] - weight @ means[0]
