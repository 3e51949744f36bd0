"""A run's data sets, model, optimiser and objective, made from its options."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import AdamW, Optimizer

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import made_with
from capcli.checkpoints.hub import find_checkpoint
from capcli.model.config import ENCODERS, TIMM, ModelConfig
from capcli.model.decoders import AttentionDecoder
from capcli.model.encoders import pretrained_weights
from capcli.model.precision import choose_training_precision
from capcli.model.refiner import Refiner
from capcli.model.timm_encoders import timm_config, timm_weights
from capcli.model.vocabulary import Vocabulary, tokenize
from capcli.progress import stderr_console
from capcli.training.data.datasets import (
    CAPTIONS_AT_ONCE,
    Batch,
    DataError,
    DataSet,
    Photo,
    encode_captions,
    epoch_batches,
    read_data_set,
)
from capcli.training.data.features import hash_weights, is_mirrored
from capcli.training.data.inputs import FreshCrops, StoredFeatures
from capcli.training.data.pairing import lend_photos, read_sentences
from capcli.training.learning.averaging import WeightAverage
from capcli.training.learning.losses import Baseline
from capcli.training.learning.objectives import Objective, choose_objective
from capcli.training.learning.options import MIN_COUNT, TrainOptions
from capcli.training.learning.ranks import Ranks

RANDOM = "random"  # weights that an encoder may begin with


@dataclass
class Setup:
    """Hold a run's parts.

    options: with auto's choice of precision.
    photos: training photos of all sets, indexed by batches.
    order: indices of photos, one per showing in an epoch.
    captions: ids of the photos' captions, see `encode_captions`.
    paired: sentences with photos lent to them.
    inputs: serve photos as the model takes them.
    optimizer: of the trained weights.
    average: of the weights, measured and kept; None keeps the weights themselves.
    baseline: of hard attention's rewards.
    begun_with: see `digests`.
    ranks: processes training together.
    """

    options: TrainOptions
    device: torch.device
    console: Console
    sets: list[DataSet]
    photos: list[Photo]
    order: list[int]
    model: CaptionModel
    captions: list[list[tuple[list[int], ...]]]
    paired: PairedSentences
    inputs: StoredFeatures | FreshCrops
    optimizer: Optimizer
    average: WeightAverage | None
    baseline: Baseline
    objective: Objective
    begun_with: dict[str, str | None]
    ranks: Ranks

    @cached_property
    def known(self) -> set[str]:
        """Return people's captions of training photos, as tokens joined by spaces."""
        return {" ".join(tokenize(caption)) for photo in self.photos for caption in photo.captions}

    @cached_property
    def dev_captions(self) -> dict[str, list[list[tuple[list[int], ...]]]]:
        """Return the dev captions' ids by data set, see `encode_captions`."""
        vocabulary, longest = self.model.vocabulary, self.model.config.max_length
        return {data_set.name: encode_captions(data_set.split("dev"), vocabulary, longest) for data_set in self.sets}

    @property
    def trained(self) -> torch.nn.Module:
        """Return the trained part of the model."""
        return self.model if self.options.fine_tune else self.model.decoder

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield this rank's part of an epoch's batches, the same each time. epoch: from 0."""
        views = [is_mirrored(view) for view in range(self.inputs.views)]
        seed, samples = self.options.seed * 100_003 + epoch, self.objective.samples
        captions, order = self.captions + self.paired.captions, self.shown(epoch)
        batches = epoch_batches(captions, order, views, self.options.captions_per_batch, seed, samples)
        return map(self.ranks.part, map(self.paired.with_photos, batches))

    def shown(self, epoch: int) -> list[int]:
        """Return an epoch's indices of photos, then of groups of sentences, see `PairedSentences`. epoch: from 0."""
        return self.order + self.paired.part(epoch)


def set_up(
    options: TrainOptions,
    folder: Path,
    device: torch.device,
    cache: Path | None = None,
    command: str | None = None,
    ranks: Ranks | None = None,
) -> Setup:
    """Make a run's parts from its options; nothing is written.

    options, folder, device, cache, command, ranks: see `loop.train`.

    Raises DataError, ModelError, ValueError and OSError, and ImportError without the `train` extra.
    """
    options = dataclasses.replace(options, precision=choose_training_precision(options.precision, device))
    sets = read_data_sets(options.data, options.allow_outside, options.limit)
    photos = [photo for data_set in sets for photo in data_set.split("train")]
    if not photos:
        raise DataError("none of the data sets has training photos")
    torch.manual_seed(options.seed)
    sentences = read_sentences(options.sentences)
    model = build_model(options, sets, photos, sentences, command, device)
    if (options.attention_boxes or options.attention_regularization) and not model.config.decoder_kind.attends:
        raise DataError(f"attention_boxes and attention_regularization need attention; {model.config.decoder} has none")
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze(model, options)
    optimizer = make_optimizer(model, options)
    averaged = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    ranks = ranks or Ranks()
    baseline = Baseline(len(model.vocabulary), ranks)
    return Setup(
        options=options,
        device=device,
        console=stderr_console(quiet=not ranks.leads),
        sets=sets,
        photos=photos,
        order=show_order(sets),
        model=model,
        captions=encode_captions(photos, model.vocabulary, model.config.max_length),
        paired=PairedSentences.of(options, sentences, photos, model),
        inputs=FreshCrops(model, sets, options, device)
        if options.fine_tune
        else StoredFeatures(model, sets, options, device, cache or folder / "features"),
        optimizer=optimizer,
        average=WeightAverage(averaged, options.average, options.init_share)
        if options.average or options.init_share
        else None,
        baseline=baseline,
        objective=choose_objective(options, model, photos, baseline, ranks),
        begun_with=digests(options, sets, sentences, model),
        ranks=ranks,
    )


@dataclass(frozen=True)
class PairedSentences:
    """Hold sentences with photos lent to them, in groups that share a photo as its captions do.

    photos: (photos + groups,), the photo of each index: each photo itself, then each group's.
    captions: ids of each group's sentences, see `encode_captions`.
    first: index of the first group.
    epochs: over which groups are spread, 1 or more.
    """

    photos: Tensor
    captions: list[list[tuple[list[int], ...]]]
    first: int
    epochs: int

    @classmethod
    def of(
        cls, options: TrainOptions, sentences: Sequence[str], photos: list[Photo], model: CaptionModel
    ) -> PairedSentences:
        """Make the groups. sentences, photos: see `lend_photos`; model: gives the vocabulary."""
        groups = [
            (index, Photo(photo.path, tuple(own[begin : begin + CAPTIONS_AT_ONCE]), "train"))
            for index, (photo, own) in enumerate(zip(photos, lend_photos(sentences, photos), strict=True))
            for begin in range(0, len(own), CAPTIONS_AT_ONCE)
        ]
        random.Random(options.seed).shuffle(groups)
        captions = encode_captions([group for _, group in groups], model.vocabulary, model.config.max_length)
        owners = torch.tensor([*range(len(photos)), *(index for index, _ in groups)])
        return cls(owners, captions, len(photos), options.sentence_epochs)

    def part(self, epoch: int) -> list[int]:
        """Return an epoch's share of the groups; none after the first `epochs`. epoch: from 0."""
        groups = range(self.first, self.first + len(self.captions))
        return list(groups[epoch :: self.epochs]) if epoch < self.epochs else []

    def with_photos(self, batch: Batch) -> Batch:
        """Return a batch with photos in place of groups."""
        return dataclasses.replace(batch, photos=self.photos[batch.photos])


def read_data_sets(arguments: tuple[str, ...], allow_outside: bool = False, limit: int | None = None) -> list[DataSet]:
    """Return data sets.

    arguments, allow_outside: see `read_data_set`.
    limit: see `DataSet.limited`.

    Raises DataError, also for two sets of one name.
    """
    sets = [read_data_set(argument, allow_outside=allow_outside).limited(limit) for argument in arguments]
    names = [data_set.name for data_set in sets]
    if len(set(names)) < len(names):
        raise DataError(f"two data sets are named {max(names, key=names.count)}; give their folders other names")
    return sets


def show_order(sets: list[DataSet]) -> list[int]:
    """Return indices of all sets' training photos, each as often as an epoch shows it."""
    order: list[int] = []
    begin = 0
    for data_set in sets:
        end = begin + len(data_set.split("train"))
        order += list(range(begin, end)) * data_set.repeat
        begin = end
    return order


def build_model(
    options: TrainOptions,
    sets: list[DataSet],
    photos: list[Photo],
    more: Sequence[str],
    command: str | None,
    device: torch.device,
) -> CaptionModel:
    """Return the model to train: --init's checkpoint, or a new decoder on an ImageNet encoder.

    photos: give a new model its vocabulary.
    more: sentences that add to it.
    command, device: for the model card, as are sets.

    Raises ModelError for a damaged checkpoint, DataError for a damaged file of encoder weights, and ValueError for an
    impossible value.
    """
    record: dict[str, Any] = {
        "command": command,
        "made_with": made_with(device),
        "data": data_rows(sets),
    }
    names = {field.name for field in dataclasses.fields(ModelConfig)}
    asked = {name: value for name, value in vars(options).items() if name in names and value is not None}
    if options.init:
        model = CaptionModel.load(find_checkpoint(options.init))
        if model.config.words_before is not None:
            raise DataError(f"--init {options.init}: was taught, and holds two decoders; train what it began as")
        record["begun_from"] = model.config.training
        if options.refine is False and model.config.refine:
            raise DataError(f"--init {options.init}: has the layer that --no-refine would leave out")
        model.config = dataclasses.replace(model.config, scores={}, unsure_below=None, confidence=[], **asked)
        if options.fine_tune and model.agreement is not None:  # it was learnt for the encoder as it is now
            model.agreement = None
            model.config = dataclasses.replace(model.config, agreement=0.0, agreement_size=None)
        if model.config.refine and isinstance(model.decoder, AttentionDecoder):
            model.decoder.refiner = model.decoder.refiner or Refiner(model.config.embedding_size, 0)
        model.decoder.set_dropout(model.config.dropout)
    else:
        name = asked.get("encoder", ModelConfig.encoder)
        if name in ENCODERS:
            asked.setdefault("encoder_stride", ENCODERS[name].strides[0])
        elif TIMM.fullmatch(name):
            asked |= timm_config(name, options.encoder_layer, options.image_size)
        if name in ENCODERS and options.encoder_layer is not None:
            raise ValueError("encoder_layer is for networks of timm")
        if name not in ENCODERS and options.encoder_stride is not None:
            raise ValueError(f"encoder_stride is fixed by {name}: leave it out")
        captions = (caption for photo in photos for caption in photo.captions)
        words = Vocabulary.build([*captions, *more], MIN_COUNT if options.min_count is None else options.min_count)
        model = CaptionModel(ModelConfig(**asked), words)
        if options.encoder_weights == RANDOM:
            pass
        elif options.encoder_weights and Path(options.encoder_weights).is_dir():
            record["begun_from"] = take_encoder(model, Path(options.encoder_weights))
        else:
            model.encoder.load_pretrained(encoder_weights(options, model.config.encoder))
    record["options"] = {
        name: getattr(model.config, name) if name in names else value
        for name, value in dataclasses.asdict(options).items()
        if name not in ("data", "allow_outside")
    }
    model.config = dataclasses.replace(model.config, training=record)
    return model


def data_rows(sets: list[DataSet]) -> list[dict[str, Any]]:
    """Return the model card's rows on data sets."""
    return [
        {
            "name": data_set.name,
            "photos": len(train := data_set.split("train")),
            "captions": sum(len(photo.captions) for photo in train),
            "repeat": data_set.repeat,
        }
        for data_set in sets
    ]


def take_encoder(model: CaptionModel, folder: Path) -> dict[str, Any]:
    """Give a model a checkpoint's encoder, and return that checkpoint's record of training.

    Raises ModelError, and DataError for an encoder of another kind.
    """
    theirs = CaptionModel.load(folder)
    kinds = [(each.encoder, each.encoder_stride, each.encoder_facts) for each in (theirs.config, model.config)]
    if kinds[0] != kinds[1]:
        (name, stride, _), _ = kinds
        raise DataError(f"{folder}: its encoder is {name} with a stride of {stride}; ask for this one")
    model.encoder.load_state_dict(theirs.encoder.state_dict())
    return theirs.config.training


def encoder_weights(options: TrainOptions, encoder: str) -> dict[str, Tensor]:
    """Return a new encoder's initial state dict, from options' file or ImageNet's.

    encoder: a key of ENCODERS.

    Raises DataError for a file without a state dict, and OSError.
    """
    path = options.encoder_weights
    if path is None:
        return pretrained_weights(encoder) if encoder in ENCODERS else timm_weights(encoder)
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # pickle, zipfile and PyTorch each raise their own
        reason = str(error).partition("\n")[0] or type(error).__name__  # an empty file's EOFError has no message
        raise DataError(f"{path}: not a state dict ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise DataError(f"{path}: not a state dict: its values are not tensors")
    return state


def freeze(model: CaptionModel, options: TrainOptions) -> None:
    """Exclude from training the encoder, or only its first blocks if the rest is fine-tuned."""
    # Batch-norm statistics stay ImageNet's even in fine-tuning, as batches are small.
    model.eval().encoder.requires_grad_(options.fine_tune)
    for block in model.encoder.blocks[: options.frozen_blocks]:
        block.requires_grad_(False)


def make_optimizer(model: CaptionModel, options: TrainOptions) -> Optimizer:
    """Return AdamW for the trained weights; a group's "peak" is its highest learning rate.

    Source: Loshchilov & Hutter 2019 (arXiv:1711.05101).
    """
    groups: list[dict[str, Any]] = [{"params": list(model.decoder.parameters()), "peak": options.learning_rate}]
    if options.fine_tune:
        trained = [parameter for parameter in model.encoder.parameters() if parameter.requires_grad]
        groups.append({"params": trained, "peak": options.encoder_learning_rate})
    return AdamW(groups, weight_decay=options.weight_decay, betas=(0.9, 0.98))


def digests(
    options: TrainOptions, sets: list[DataSet], sentences: Sequence[str], model: CaptionModel
) -> dict[str, str | None]:
    """Return SHA-256 digests of the captions and of initial weights from a file (else None).

    They tell a resumed run whether the files behind its options have changed.
    """
    listing = [(photo.path.name, photo.split, photo.captions) for data_set in sets for photo in data_set.photos]
    texts = json.dumps([model.vocabulary.words, listing, *([sentences] if sentences else [])])
    return {
        "captions": hashlib.sha256(texts.encode()).hexdigest(),
        "weights": hash_weights(model).hexdigest() if options.init or options.encoder_weights else None,
    }
