"""PyTorch: on CPUs and GPUs, in every number format."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.facts import Facts
from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import DecodingOptions
from capcli.decoding.sampling import decode, make_generator
from capcli.engines.engine import Engine, SentencesRead
from capcli.model.decoders import State
from capcli.model.encoders import Features, fold_batch_norm
from capcli.model.precision import PRECISIONS, choose_precision
from capcli.model.taught import TaughtDecoder

ENCODED_AT_ONCE = 4  # images per thread
DEVICES = ("cuda", "mps", "cpu")


class TorchEngine(Engine):
    """A PyTorch model, run by faster copies of its encoder and decoder; see Engine."""

    name = "torch"

    def __init__(self, model: CaptionModel, device: torch.device, precision: str = "auto") -> None:
        """Prepare a model, changing only its device.

        precision: see `Captioner.load`. Raises ValueError for one this device lacks.
        """
        self.precision = choose_precision(precision, device)
        dtype = PRECISIONS[self.precision]
        self.model = model.to(device).eval()
        self.config, self.vocabulary = model.config, model.vocabulary
        self.encoder = fold_batch_norm(model.encoder).in_number_format(dtype)
        self.encoder.to(memory_format=torch.channels_last)
        self.decoder = model.decoder if dtype == torch.float32 else model.decoder.in_number_format(dtype)
        self.torch_device, self.device = device, str(device)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: torch.device, precision: str = "auto") -> TorchEngine:
        """Return an engine for a checkpoint folder. Raises ModelError, and ValueError as `__init__` does."""
        return cls(CaptionModel.load(folder), device, precision)

    @property
    def facts(self) -> Facts:
        return self.model.facts

    @property
    def threads(self) -> int:
        """Return PyTorch's number of threads, which is the whole process's and not for a library to set."""
        return torch.get_num_threads()

    @threads.setter
    def threads(self, number: int) -> None:
        torch.set_num_threads(number)

    def prepare(self) -> None:
        """Return at once: a PyTorch model is ready."""

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> Features:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        # On a CPU a few images at a time, whose layers fit its cache and need little memory.
        at_once = ENCODED_AT_ONCE * self.threads if self.torch_device.type == "cpu" else len(images)
        pieces = [
            self.encoder(piece.to(self.torch_device, memory_format=torch.channels_last))
            for piece in images.split(at_once)
        ]
        return Features.join(pieces)

    @torch.inference_mode()
    def search(
        self, features: Features, count: int, options: DecodingOptions, generator: Generator | None = None
    ) -> Hypotheses[np.ndarray]:
        found = decode(self.decoder, features, count, options, self.vocabulary, generator)
        return as_arrays(found)

    def make_generator(self, seed: int | None) -> Generator:
        return make_generator(seed, self.torch_device)

    @torch.inference_mode()
    def start(self, features: Features) -> State:
        return self.decoder.start(features)

    @torch.inference_mode()
    def step(self, words: np.ndarray, state: State, parents: np.ndarray) -> tuple[np.ndarray, State]:
        previous, beams = (torch.from_numpy(array).to(self.torch_device) for array in (words, parents))
        step = self.decoder.step(previous, state.reorder(beams))
        return step.logits.log_softmax(2).cpu().numpy(), step.state

    @torch.inference_mode()
    def read(self, features: Features, words: np.ndarray) -> SentencesRead:
        given = torch.from_numpy(words).to(self.torch_device).expand(len(features.global_vector), -1, -1)
        reading = self.decoder(features, given)
        return SentencesRead(as_array(reading.logits), as_array(reading.attention), as_array(reading.gate))

    @torch.inference_mode()
    def agree(self, features: Features, words: np.ndarray) -> np.ndarray:
        assert self.model.agreement is not None
        # In float32, as these are only a few layers.
        found = self.model.agreement.photos(features.global_vector.float())
        if isinstance(self.model.decoder, TaughtDecoder):
            found = found * ~self.model.decoder.is_near(features).squeeze(2)
        cosines: np.ndarray = self.model.agreement(found, torch.from_numpy(words).to(self.torch_device)).cpu().numpy()
        return cosines

    def vectors(self, features: Features) -> np.ndarray:
        vectors: np.ndarray = as_array(features.global_vector)
        return vectors

    def synchronize(self) -> None:
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)
        elif self.torch_device.type == "mps":
            torch.mps.synchronize()


def as_array(tensor: Tensor | None) -> Any:
    """Return a tensor as an array, 16-bit numbers as float32; None stays None."""
    if tensor is None:
        return None
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def as_arrays(found: Hypotheses[Tensor]) -> Hypotheses[np.ndarray]:
    """Return sentences in arrays, by `as_array`."""
    return Hypotheses(**{name: as_array(tensor) for name, tensor in vars(found).items()})


def choose_device(name: str) -> torch.device:
    """Return the named device; `auto` is CUDA if there is one, else Apple's MPS, else the CPU.

    Raises ValueError for a missing one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name.partition(":")[0] not in DEVICES:  # PyTorch has twenty more, most of which run no model
        raise ValueError(f"device {name!r} cannot be used: not one of auto, {', '.join(DEVICES)}, {DEVICES[0]}:1 …")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except Exception as error:  # PyTorch raises RuntimeError, AssertionError and others here
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device
