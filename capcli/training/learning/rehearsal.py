"""What a run will take, measured on a few photos before it begins; nothing is written."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch

from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.model.encoders import Features
from capcli.model.precision import PRECISIONS, autocast
from capcli.training.data.datasets import Batch
from capcli.training.data.features import encode_views
from capcli.training.data.inputs import StoredFeatures
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.setup import Setup, set_up
from capcli.training.measuring.validation import with_dev

PHOTOS = 32  # that are encoded, of which all but the first are timed
STEPS = 2  # after the first, which is slower than the others
DEV_PHOTOS = 8


def rehearse(options: TrainOptions, folder: Path, device: torch.device, cache: Path | None = None) -> Iterator[str]:
    """Yield lines on what a run will take: photos, parameters, time, memory, and room on the disk.

    Time is measured on a few photos and batches on this machine as it is now; it leaves out the start, METEOR, and what
    reading photos from a slow disk takes.

    options, folder, device, cache: see `loop.train`.

    Raises what `set_up` raises, and ImageError.
    """
    setup = set_up(options, folder, device, cache)
    dev = [photo for data_set in with_dev(setup.sets) for photo in data_set.split("dev")]
    model, shown = setup.model, len(setup.shown(0))
    trained = sum(p.numel() for p in setup.trained.parameters() if p.requires_grad)
    yield f"photos      {len(setup.photos):,} to train on, {len(dev):,} dev"
    yield (
        f"model       {model.config.encoder}, {model.config.decoder}, {len(model.vocabulary):,} words; "
        f"{trained / 1e6:.1f} M parameters are trained"
    )
    features, per_view = time_encoding(setup)
    encoding = 0.0
    if isinstance(setup.inputs, StoredFeatures):
        stores = [store for stores in setup.inputs.stores.values() for store in stores.values()]
        left = [store for store in stores if not store.files[2].exists()]
        views = sum(store.shapes[0][0] * store.shapes[0][1] for store in left)
        size = 2 * sum(torch.Size(shape).numel() for store in left for shape in store.shapes)
        encoding = per_view * views
        yield f"encoding    {views:,} views once, about {spoken(encoding)}; {size / 1e9:.2f} GB in {cache or folder}"
    step = time_steps(setup, features)
    epoch, validation = shown * step, len(dev) * (time_search(setup, features) + per_view * options.fine_tune)
    yield f"an epoch    {shown:,} photos, about {spoken(epoch)}, and {spoken(validation)} for dev photos"
    whole = encoding + options.epochs * (epoch + validation) + validation
    yield f"the run     {options.epochs} epochs, about {spoken(whole)} on {device} in {setup.options.precision}"
    yield f"memory      {memory(device)} at the peak so far"
    weights = sum(p.numel() for p in model.parameters())
    yield f"disk        {2 * weights / 1e6:.0f} MB for the checkpoint, {12 * trained / 1e6:.0f} MB to resume"


def time_encoding(setup: Setup) -> tuple[Features, float]:
    """Return features of some training photos, and the seconds for each photo. Raises ImageError."""
    photos = list(itertools.islice(itertools.cycle(setup.photos), PHOTOS))
    size, precision = setup.model.config.image_size, setup.options.precision
    parts: list[Features] = []
    ends: list[float] = []
    for features in encode_views(setup.model.encoder, photos, 1, size, setup.device, precision):
        wait_for(setup.device)
        parts.append(features)
        ends.append(time.perf_counter())
    found, dtype = Features.join(parts), PRECISIONS[precision]
    # The first photo waits for all that has to be made ready.
    each = (ends[-1] - ends[0]) / (PHOTOS - len(parts[0].global_vector))
    return Features(found.annotations.to(dtype), found.global_vector.to(dtype)), each


def time_steps(setup: Setup, features: Features) -> float:
    """Return the seconds that a step takes for each photo of its batch. features: of some photos. Raises ImageError."""
    setup.objective.begin_epoch(setup.model.decoder, 0)
    timed: list[tuple[float, int]] = []
    for batch in itertools.islice(setup.batches(0), STEPS + 1):
        begun = time.perf_counter()
        step(setup, batch, features)
        wait_for(setup.device)
        timed.append((time.perf_counter() - begun, batch.size))
    setup.model.decoder.eval()
    timed = timed[1:] or timed
    return sum(seconds for seconds, _ in timed) / sum(photos for _, photos in timed)


def step(setup: Setup, batch: Batch, features: Features) -> None:
    """Take one step of training, with the features of other photos where the encoder keeps its weights."""
    if setup.options.fine_tune:
        ((batch, pixels),) = setup.inputs.train(iter([batch]), 0)
    with autocast(setup.device, setup.options.precision):
        if setup.options.fine_tune:
            seen = setup.model.encoder(pixels)
        else:
            seen = features.take(torch.arange(len(batch.photos), device=setup.device) % PHOTOS)
        loss, _ = setup.objective(setup.model, seen, batch)
    setup.optimizer.zero_grad()
    loss.backward()
    setup.optimizer.step()


def time_search(setup: Setup, features: Features) -> float:
    """Return the seconds that the beam search takes for each photo. features: of some photos."""
    some = features.take(torch.arange(DEV_PHOTOS, device=setup.device))
    begun = time.perf_counter()
    with torch.inference_mode(), autocast(setup.device, setup.options.precision):
        beam_search(setup.model.decoder, some, BeamOptions(**setup.model.config.decoding), setup.model.vocabulary)
    wait_for(setup.device)
    return (time.perf_counter() - begun) / DEV_PHOTOS


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory(device: torch.device) -> str:
    """Return in a few words how much memory the process has used at most."""
    told = []
    if device.type == "cuda":
        told.append(f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of the GPU's")
    if sys.platform != "win32":
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        told.append(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB")
    return " and ".join(told) or "not known here;"


def spoken(seconds: float) -> str:
    """Return a time as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))
