"""How photos come to the model: as features encoded once, or as pixels for an encoder that is trained itself."""

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
from capcli.training.datasets import Batch, DataSet
from capcli.training.features import BATCHES_AHEAD, FeatureStore, encode_views, load_view, look_up
from capcli.training.options import TrainOptions

DEV_BATCH = 64


class StoredFeatures:
    """Show photos as the frozen encoder sees them, from files that are made before the first epoch.

    views: how many views of a photo an epoch chooses from.
    stores: the files by split, train or dev, and by data set, so that other mixtures of data sets can use them too.
    """

    def __init__(
        self, model: CaptionModel, sets: list[DataSet], options: TrainOptions, device: torch.device, cache: Path
    ) -> None:
        """Name the files. Raises OSError for an absent photo.

        cache: the folder of the files.
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
        """Encode the photos, with a progress bar, unless that is done. Raises ImageError and OSError."""
        for split, stores in self.stores.items():
            for name, store in stores.items():
                photos, views, *_ = store.shapes[0]
                with progress(console, f"encoding {name} {split} photos", photos * views) as advance:
                    store.open(advance)

    def train(self, batches: Iterator[Batch], epoch: int) -> Iterator[tuple[Batch, Features]]:
        """Yield each batch with what the encoder said of its photos."""
        stores = list(self.stores["train"].values())
        for batch in batches:
            yield batch, self.on_device(look_up(stores, batch.photos, batch.views))

    def dev(self, data_set: DataSet) -> Iterator[Features]:
        """Yield the features of a data set's dev photos, in batches."""
        store = self.stores["dev"][data_set.name]
        for rows in torch.arange(len(data_set.split("dev"))).split(DEV_BATCH):
            yield self.on_device(look_up([store], rows, torch.zeros_like(rows)))

    def on_device(self, features: Features) -> Features:
        """Return stored features on the device, in the run's number format."""
        parts = (features.annotations, features.global_vector)
        return Features(*(tensor.to(self.device, self.dtype) for tensor in parts))

    def delete(self) -> None:
        """Remove the files."""
        for stores in self.stores.values():
            for store in stores.values():
                store.delete()


class FreshCrops:
    """Show photos as pixels to an encoder that is being trained, in crops that no epoch and no seed repeats.

    views: how many views of a photo an epoch chooses from, a crop and a mirrored one.
    """

    views = 2

    def __init__(self, model: CaptionModel, sets: list[DataSet], options: TrainOptions, device: torch.device) -> None:
        self.encoder, self.size = model.encoder, model.config.image_size
        self.device, self.precision, self.seed = device, options.precision, options.seed
        self.photos = [photo for data_set in sets for photo in data_set.split("train")]

    def open(self, console: Console) -> None:
        """Do nothing: no photo is encoded ahead."""

    def train(self, batches: Iterator[Batch], epoch: int) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch, its views numbered as `load_view` takes them, with their pixels.

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
        """Yield the features of a data set's dev photos as the encoder sees them now. Raises ImageError."""
        yield from encode_views(self.encoder, data_set.split("dev"), 1, self.size, self.device, self.precision)

    def delete(self) -> None:
        """Do nothing: there are no files."""
