"""The model's input: features encoded once, or pixels if the encoder trains too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from capcli.checkpoints.caption_model import CaptionModel
from capcli.model.encoders import Features
from capcli.model.precision import PRECISIONS
from capcli.progress import progress
from capcli.streaming import ahead
from capcli.training.data.datasets import Batch, DataSet
from capcli.training.data.features import BATCHES_AHEAD, FeatureStore, encode_views, load_view, look_up
from capcli.training.learning.options import TrainOptions

DEV_BATCH = 64


class StoredFeatures:
    """Serve photos as the frozen encoder's features, from files made before the first epoch.

    views: of a photo that an epoch chooses from.
    stores: by split (train, dev) and data set, so that other combinations of sets can share them.
    """

    def __init__(
        self, model: CaptionModel, sets: list[DataSet], options: TrainOptions, device: torch.device, cache: Path
    ) -> None:
        """Name the files; `open` makes them.

        options: give the number of views and the precision.
        cache: folder for the files.

        Raises OSError for a missing photo.
        """
        self.device, self.views, self.dtype = device, options.views, PRECISIONS[options.precision]
        self.stores = {
            split: {
                data_set.name: FeatureStore(
                    cache, model.encoder, photos, views, model.config.image_size, device, options.precision
                )
                for data_set in sets
                if (photos := data_set.split(split))
            }
            for split, views in (("train", options.views), ("dev", 1))
        }

    def open(self, console: Console) -> None:
        """Encode the photos with a progress bar, unless done. Raises ImageError and OSError."""
        for split, stores in self.stores.items():
            for name, store in stores.items():
                photos, views, *_ = store.shapes[0]
                with progress(console, f"encoding {name} {split} photos", photos * views, "views") as advance:
                    store.open(advance)

    def train(self, batches: Iterator[Batch], epoch: int) -> Iterator[tuple[Batch, Features]]:
        """Yield each batch with its photos' features. epoch: unused."""
        stores = list(self.stores["train"].values())
        for batch in batches:
            yield batch, self.on_device(look_up(stores, batch.photos, batch.views))

    def dev(self, data_set: DataSet) -> Iterator[Features]:
        """Yield the features of a set's dev photos in batches."""
        store = self.stores["dev"][data_set.name]
        for rows in torch.arange(len(data_set.split("dev"))).split(DEV_BATCH):
            yield self.on_device(look_up([store], rows, torch.zeros_like(rows)))

    def on_device(self, features: Features) -> Features:
        """Return features on the device, in the run's precision."""
        parts = (features.annotations, features.global_vector)
        return Features(*(tensor.to(self.device, self.dtype) for tensor in parts))

    def delete(self) -> None:
        """Remove the files."""
        for stores in self.stores.values():
            for store in stores.values():
                store.delete()


class FreshCrops:
    """Serve photos as pixels, in crops that differ by epoch and seed, for an encoder that trains too.

    views: two, a crop and a mirrored crop.
    """

    views = 2

    def __init__(self, model: CaptionModel, sets: list[DataSet], options: TrainOptions, device: torch.device) -> None:
        """Prepare the training photos. options: give the precision and the crops' seed."""
        self.encoder, self.size = model.encoder, model.config.image_size
        self.device, self.precision, self.seed = device, options.precision, options.seed
        self.photos = [photo for data_set in sets for photo in data_set.split("train")]

    def open(self, console: Console) -> None:
        """Do nothing: no photo is encoded ahead."""

    def train(self, batches: Iterator[Batch], epoch: int) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with its photos' pixels, (batch, 3, size, size) uint8.

        batches: with views 0 or 1; those yielded are numbered as in `load_view`.
        epoch: from 0.

        Raises ImageError.
        """
        first = 2 + 2 * (epoch + 1000 * self.seed)
        numbered = (replace(batch, views=batch.views + first) for batch in batches)

        def load(batch: Batch) -> tuple[Batch, Tensor]:
            views = zip(batch.photos.tolist(), batch.views.tolist(), strict=True)
            return batch, torch.stack([load_view(self.photos[photo], view, self.size) for photo, view in views])

        for batch, pixels in ahead(load, numbered, BATCHES_AHEAD):
            yield batch, pixels.to(self.device, memory_format=torch.channels_last)

    def dev(self, data_set: DataSet) -> Iterator[Features]:
        """Yield the features of a set's dev photos from the current encoder. Raises ImageError."""
        yield from encode_views(self.encoder, data_set.split("dev"), 1, self.size, self.device, self.precision)

    def delete(self) -> None:
        """Do nothing: there are no files."""
