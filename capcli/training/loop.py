"""The training loop behind `capcli train`, from data sets to the best checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from capcli.beam_search import BeamOptions, beam_search
from capcli.encoders import Features, imagenet_lite2
from capcli.model import CaptionModel, ModelConfig, write_whole
from capcli.training.datasets import (
    DataError,
    DataSet,
    Photo,
    encode_captions,
    epoch_batches,
    read_data_set,
)
from capcli.training.features import FeatureStore, is_mirrored
from capcli.training.losses import caption_loss, doubly_stochastic
from capcli.training.metrics import describe, score_captions
from capcli.vocabulary import Vocabulary, tokenize

LAST_FILE = "last.safetensors"
LOG_FILE = "log.jsonl"
WARM_UP = 0.05  # of all steps
FINAL_RATE = 0.02  # of the learning rate, at the end of the cosine
GRADIENT_NORM = 1.0
SHOWN_CAPTIONS = 3


@dataclass(frozen=True)
class TrainOptions:
    """What fixes a run's result, and so has to be the same when it is resumed.

    data: arguments of `read_data_set`. captions_per_batch: captions, not photos. views: how many views of each photo
    (itself, mirrored, crops) are encoded. min_count: how often a word must occur to be learnt. length of time: epochs.
    """

    data: tuple[str, ...]
    epochs: int = 10
    captions_per_batch: int = 160
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    encoder_stride: int = 32
    image_size: int = 224
    views: int = 4
    hidden_size: int = 512
    embedding_size: int = 512
    attention_size: int = 512
    dropout: float = 0.5
    label_smoothing: float = 0.1
    attention_regularization: float = 0.0
    min_count: int = 4
    max_length: int = 20
    beam: int = 3
    length_penalty: float = 1.0
    seed: int = 1


class Run:
    """One training run in its folder: the best checkpoint, `last.safetensors` to resume from, and `log.jsonl`."""

    def __init__(self, options: TrainOptions, folder: Path, device: torch.device, cache: Path | None = None) -> None:
        """Read the data sets, encode the photos and build the model.

        cache: where encoded photos are kept for other runs; None keeps them in the run's folder until it is done.
        Raises DataError, ImageError, OSError and, without the `train` extra, ImportError.
        """
        self.options, self.folder, self.device = options, folder, device
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        self.sets = [read_data_set(argument) for argument in options.data]
        names = [s.name for s in self.sets]
        if len(set(names)) < len(names):
            raise DataError(f"two data sets are named {max(names, key=names.count)}; give their folders other names")
        self.train_photos = [photo for s in self.sets for photo in s.split("train")]
        if not self.train_photos:
            raise DataError("no photo of any data set is marked train")
        self.order: list[int] = []
        for data_set in self.sets:
            begin = self.order_base(data_set)
            self.order += list(range(begin, begin + len(data_set.split("train")))) * data_set.repeat
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        vocabulary = Vocabulary.build((c for photo in self.train_photos for c in photo.captions), options.min_count)
        shared = {f.name for f in dataclasses.fields(ModelConfig)} & {f.name for f in dataclasses.fields(TrainOptions)}
        config = ModelConfig(
            **{name: getattr(options, name) for name in shared},
            training={
                "command": shlex.join(["capcli", "train", *sys.argv[2:]]) if sys.argv[1:2] == ["train"] else None,
                "data": [
                    {
                        "name": s.name,
                        "photos": len(s.split("train")),
                        "captions": sum(len(p.captions) for p in s.split("train")),
                        "repeat": s.repeat,
                    }
                    for s in self.sets
                ],
                "options": {k: v for k, v in dataclasses.asdict(options).items() if k != "data"},
            },
        )
        self.model = CaptionModel(config, vocabulary)
        self.model.encoder.load_imagenet(imagenet_lite2())
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.encoder.requires_grad_(False).eval()
        self.cache = cache or folder / "features"
        self.keep_cache = cache is not None
        self.store = self.encode("training photos", self.train_photos, options.views)
        self.dev_stores = {
            s.name: self.encode(f"{s.name} dev photos", s.split("dev"), 1) for s in self.sets if s.split("dev")
        }
        self.captions = encode_captions(self.train_photos, vocabulary, options.max_length)
        self.seen = {" ".join(tokenize(caption)) for photo in self.train_photos for caption in photo.captions}
        self.optimizer = torch.optim.AdamW(
            self.model.decoder.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            betas=(0.9, 0.98),
        )
        self.epoch = 0
        self.best = -math.inf
        self.steps_per_epoch = len(list(self.batches(0)))

    def order_base(self, data_set: DataSet) -> int:
        """Where a data set's photos begin among all training photos."""
        before = self.sets[: self.sets.index(data_set)]
        return sum(len(s.split("train")) for s in before)

    def encode(self, what: str, photos: list[Photo], views: int) -> FeatureStore:
        """Encoded photos, with a progress bar the first time."""
        with progress_bar(self.console) as bar:
            task = bar.add_task(f"encoding {what}", total=len(photos) * views)
            return FeatureStore(
                self.cache,
                self.model.encoder,
                photos,
                views,
                self.options.image_size,
                self.device,
                lambda done: bar.advance(task, done),
            )

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of one epoch, the same each time they are asked for."""
        views = [is_mirrored(view) for view in range(self.options.views)]
        seed = self.options.seed * 100_003 + epoch
        return epoch_batches(self.captions, self.order, views, self.options.captions_per_batch, seed)

    def train(self) -> None:
        """Train to the last epoch, keeping the best checkpoint and the last, then measure and describe the best."""
        while self.epoch < self.options.epochs:
            started = time.perf_counter()
            loss = self.train_epoch()
            seconds = time.perf_counter() - started
            scores, examples = self.validate()
            photos = {name: len(self.dev_stores[name].global_vectors) for name in scores}
            mean = sum(scores[n]["cider"] * count for n, count in photos.items()) / max(sum(photos.values()), 1)
            row = {"epoch": self.epoch + 1, "loss": loss, "seconds": round(seconds, 1), "dev": scores, "cider": mean}
            self.report(row, examples)
            # Without a dev photo there is nothing to choose by, and the last epoch is kept.
            if mean > self.best or not scores:
                self.best = mean
                self.model.save(self.folder, torch.float16)
            self.epoch += 1
            self.save_last(row)
        self.finish()

    def train_epoch(self) -> float:
        """One pass over the training photos. Returns the mean loss per batch."""
        # Seeded by the epoch, so that a resumed run draws the dropout that an uninterrupted one would have drawn.
        torch.manual_seed(self.options.seed * 7919 + self.epoch)
        self.model.decoder.train()
        total = 0.0
        with progress_bar(self.console) as bar:
            task = bar.add_task(f"epoch {self.epoch + 1}/{self.options.epochs}", total=self.steps_per_epoch)
            for index, batch in enumerate(self.batches(self.epoch)):
                rate = self.learning_rate(self.epoch * self.steps_per_epoch + index)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                features = self.on_device(self.store[batch.photos, batch.views])
                targets = batch.targets.to(self.device)
                with self.autocast():
                    reading = self.model.decoder(features, batch.words.to(self.device))
                    loss = caption_loss(reading.logits, targets, self.options.label_smoothing)
                    if self.options.attention_regularization:
                        regularization = doubly_stochastic(reading.attention, targets)
                        loss = loss + self.options.attention_regularization * regularization
                self.optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.decoder.parameters(), GRADIENT_NORM)
                self.optimizer.step()
                total += loss.item()
                bar.update(
                    task, advance=1, description=f"epoch {self.epoch + 1}/{self.options.epochs}  loss {loss:.3f}"
                )
        self.model.decoder.eval()
        return total / self.steps_per_epoch

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine down to FINAL_RATE."""
        steps = self.steps_per_epoch * self.options.epochs
        warm_up = max(1, round(WARM_UP * steps))
        if step < warm_up:
            return self.options.learning_rate * (step + 1) / warm_up
        cosine = 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up))
        return self.options.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * cosine)

    def validate(self, meteor: bool = False) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, str]]]:
        """Scores on every data set's dev photos, and some captions: (photo, ours, a person's)."""
        options = BeamOptions(self.options.beam, self.options.max_length, self.options.length_penalty)
        scores, examples = {}, []
        for data_set in self.sets:
            photos = data_set.split("dev")
            if not photos:
                continue
            store, captions = self.dev_stores[data_set.name], []
            with progress_bar(self.console) as bar:
                task = bar.add_task(f"captioning {data_set.name} dev", total=len(photos))
                for rows in torch.arange(len(photos)).split(64):
                    features = self.on_device(store[rows, torch.zeros_like(rows)])
                    with self.autocast():
                        found = beam_search(self.model.decoder, features, options)
                    captions += [self.model.vocabulary.decode(ids) for ids in found.words[:, 0].tolist()]
                    bar.advance(task, len(rows))
            results = score_captions(captions, [photo.captions for photo in photos], meteor)
            del results["cider_each"]
            scores[data_set.name] = results | describe(captions, self.seen)
            stride = max(1, len(photos) // SHOWN_CAPTIONS)
            examples += [(p.path.name, c, p.captions[0]) for p, c in zip(photos, captions, strict=True)][::stride][
                :SHOWN_CAPTIONS
            ]
        return scores, examples

    def report(self, row: dict[str, Any], examples: list[tuple[str, str, str]]) -> None:
        """One line per epoch and data set, and a few captions beside what a person wrote."""
        say = self.console.print
        say(f"epoch {row['epoch']}/{self.options.epochs}: loss {row['loss']:.3f}, {row['seconds']:.0f} s", markup=False)
        for name, scores in row["dev"].items():
            figures = "  ".join(f"{k} {scores[k]:.1f}" for k in ("bleu_4", "rouge_l", "cider", "repetition"))
            say(f"  {name} dev: {figures}  distinct_words {scores['distinct_words']}", markup=False)
        for name, ours, theirs in examples:
            say(f"  {name}: {ours}  (a person: {theirs})", markup=False)

    def autocast(self) -> torch.autocast:
        """bfloat16 where it is known to help."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "mps")

    def on_device(self, features: Features) -> Features:
        """Stored features on the device, in the number format of the autocast."""
        dtype = torch.float32 if self.device.type == "mps" else torch.bfloat16
        return Features(features.annotations.to(self.device, dtype), features.global_vector.to(self.device, dtype))

    def save_last(self, row: dict[str, Any]) -> None:
        """Everything a resumed run needs in one file, replaced at once; then the log, which can be told from it."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.decoder.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        log = [*(json.loads(line) for line in self.read_log()[: self.epoch - 1]), row]
        record = {"options": dataclasses.asdict(self.options), "epoch": self.epoch, "best": self.best, "log": log}
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(self.folder / LAST_FILE, save(content, metadata={"run": json.dumps(record)}))
        write_whole(self.folder / LOG_FILE, "".join(json.dumps(r) + "\n" for r in log).encode())

    def read_log(self) -> list[str]:
        """Rows of the log so far."""
        path = self.folder / LOG_FILE
        return path.read_text("utf-8").splitlines() if path.exists() else []

    def resume(self) -> None:
        """Go back to the last finished epoch.

        Raises DataError if the run was begun with other options or other data, or its file is damaged.
        """
        for leftover in self.folder.glob(".*.tmp"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
        path = self.folder / LAST_FILE
        try:
            with safe_open(path, "pt") as file:
                record = json.loads(file.metadata()["run"])
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: damaged ({error}); delete it to begin anew") from None
        options = dataclasses.asdict(self.options) | {"data": list(self.options.data)}
        for name, value in record["options"].items():
            if options[name] != value:
                raise DataError(f"{self.folder}: begun with {name} {value!r}, cannot be resumed with {options[name]!r}")
        decoder = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        try:
            self.model.decoder.load_state_dict(decoder)
        except RuntimeError:  # the vocabulary's size is among the shapes
            raise DataError(f"{path}: begun with other captions; restore them, or name another folder") from None
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, key = rest.partition(".")
                state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.epoch, self.best = record["epoch"], record["best"]
        write_whole(self.folder / LOG_FILE, "".join(json.dumps(r) + "\n" for r in record["log"]).encode())
        self.console.print(f"resuming after epoch {self.epoch}", markup=False)

    def finish(self) -> None:
        """Measure the checkpoint as it is stored, write its card, and drop the encoded photos."""
        stored = CaptionModel.load(self.folder)
        self.model.load_state_dict(stored.state_dict())
        scores, _ = self.validate(meteor=True)
        rounded = {n: {k: round(v, 2) if isinstance(v, float) else v for k, v in s.items()} for n, s in scores.items()}
        stored.config = dataclasses.replace(stored.config, scores=rounded)
        stored.save_description(self.folder)
        if not self.keep_cache:
            shutil.rmtree(self.cache, ignore_errors=True)
        self.console.print(f"the best checkpoint is in {self.folder}", markup=False)


def progress_bar(console: Console) -> Progress:
    """A bar with time left; silent where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
