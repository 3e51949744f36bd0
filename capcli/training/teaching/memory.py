"""A checkpoint's memory for `capcli teach`: features of its training photos, in eight bits.

No photo can be made from them: 64 numbers per cell of a grid of about eight by eight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.store import MEMORY_FILE, ModelError, check_header, one_line
from capcli.files import write_whole
from capcli.model.encoders import Features
from capcli.training.data.datasets import Photo
from capcli.training.data.features import encode_views, hash_weights

PHOTOS = 700
DIMENSIONS = 64  # of an annotation vector; half as many remember a little less, twice as many no more
LEVELS = 127
MOST_PHOTOS = 100_000  # in any memory
LARGEST = 1e4  # absolute value of a feature; EfficientNet-Lite2's stay below 10


def write_memory(folder: Path, model: CaptionModel, photos: Sequence[Photo], device: torch.device, seed: int) -> None:
    """Write features of some photos into a checkpoint's folder.

    Annotation vectors are reduced to principal components; global vectors keep all channels.

    photos: the checkpoint's training photos, of which PHOTOS are drawn.
    seed: of the draw.

    Raises ImageError and OSError.
    """
    from safetensors.torch import save

    drawn = random.Random(seed).sample(photos, min(PHOTOS, len(photos)))
    encoder = model.encoder.to(device)
    views = list(encode_views(encoder, drawn, 1, model.config.image_size, device, "fp32"))
    features = Features.join(views)
    annotations, vectors = features.annotations.cpu().double(), features.global_vector.cpu()
    mean = annotations.mean((0, 1))
    cells = (annotations - mean).flatten(0, 1)
    basis = torch.linalg.eigh(cells.T @ cells).eigenvectors[:, -DIMENSIONS:].flip(1)
    codes, scales = rounded((cells @ basis).view(*annotations.shape[:2], -1))
    vector_codes, vector_scales = rounded(vectors)
    tensors = {
        "mean": mean.float(),
        "basis": basis.half(),
        "codes": codes,
        "scales": scales.float(),
        "vector_codes": vector_codes,
        "vector_scales": vector_scales.float(),
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_whole(folder / MEMORY_FILE, save(tensors, metadata={"encoder": hash_weights(encoder).hexdigest()}))


def read_memory(folder: Path, model: CaptionModel) -> Features:
    """Return a checkpoint's remembered features, on the CPU in float32.

    Raises ModelError if they are missing, damaged or of another encoder.
    """
    from safetensors import SafetensorError, safe_open

    path, kind, cells = folder / MEMORY_FILE, model.config.encoder_kind, math.prod(model.config.grid)
    if not path.is_file():
        raise ModelError(
            f"{folder}: no {MEMORY_FILE}, by which teaching knows what not to forget; capcli train makes it"
        )
    try:
        check_header(path)
        with safe_open(path, "pt") as file:
            encoder = (file.metadata() or {}).get("encoder")
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            (count, _, dimensions), size = shapes["codes"], kind.annotation_size
            expected = {
                "mean": (size,),
                "basis": (size, dimensions),
                "codes": (count, cells, dimensions),
                "scales": (dimensions,),
                "vector_codes": (count, kind.global_size),
                "vector_scales": (kind.global_size,),
            }
            if shapes != expected or not 0 < count <= MOST_PHOTOS or not 0 < dimensions <= size:
                raise ModelError(f"{path}: not the memory of this checkpoint")
            tensors = {name: file.get_tensor(name) for name in expected}
        if encoder != hash_weights(model.encoder).hexdigest():
            raise ModelError(f"{path}: made with another encoder than this checkpoint's")
        annotations = (tensors["codes"].float() * tensors["scales"]) @ tensors["basis"].float().T + tensors["mean"]
        vectors = tensors["vector_codes"].float() * tensors["vector_scales"]
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: damaged or cut off: {one_line(error)}") from None
    for values in (annotations, vectors):
        if not values.abs().max() <= LARGEST:  # true of nan too
            raise ModelError(f"{path}: holds values that no photo has, above {LARGEST:g} or not finite")
    return Features(annotations, vectors)


def rounded(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return values as eight-bit integers, and the factor of each channel (last axis)."""
    scales = values.abs().flatten(0, -2).amax(0).clamp_min(1e-6) / LEVELS
    return (values / scales).round().to(torch.int8), scales
