"""The training loop behind `capcli train`, from data sets to the best checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import score_line
from capcli.checkpoints.store import read_config
from capcli.decoding.beam_search import BeamOptions, beam_search
from capcli.files import write_whole
from capcli.model.config import ENCODERS, ModelConfig
from capcli.model.decoders import AttentionDecoder, Reading
from capcli.model.encoders import Features, pretrained_weights
from capcli.model.precision import PRECISIONS, autocast, choose_training_precision
from capcli.model.vocabulary import START, UNKNOWN, Vocabulary, tokenize
from capcli.training.averaging import WeightAverage
from capcli.training.calibration import least_gain
from capcli.training.datasets import (
    Batch,
    DataError,
    DataSet,
    encode_captions,
    epoch_batches,
    mirror,
    read_data_set,
)
from capcli.training.evaluation import evaluate_captioner
from capcli.training.features import (
    FeatureStore,
    ahead,
    encode_views,
    hash_weights,
    is_mirrored,
    load_view,
    look_up,
    view_box,
)
from capcli.training.losses import (
    Baseline,
    attention_supervision,
    caption_loss,
    doubly_stochastic,
    hard_attention_loss,
)
from capcli.training.metrics import describe, score_captions
from capcli.training.options import MIN_COUNT, TrainOptions
from capcli.training.pointing import PERSON_WORDS, cells_inside, read_boxes, seen_in_view
from capcli.training.progress import progress, stderr_console
from capcli.training.self_critical import CiderD, advantages, policy_loss, sample_captions

LAST_FILE = "last.safetensors"
LOG_FILE = "log.jsonl"
WARM_UP = 0.05  # of all that a run shows
FINAL_RATE = 0.02  # of the learning rate, at the end of the cosine
GRADIENT_NORM = 1.0
SHOWN_CAPTIONS = 3
SUPERVISION = 2.0  # what a word's attention weighs against its likelihood where boxes are known
# The share of hard attention's epochs in which every context is the expected one. Locations drawn before attention has
# learnt anything are noise: drawing from the first epoch on ends at dev CIDEr 36.5, after two epochs of six at 42.8.
EXPECTED_FIRST = 1 / 3
SAMPLES = 5  # captions drawn per photo in self-critical training


class Run:
    """One training run in its folder: the best checkpoint, `last.safetensors` to resume from, and `log.jsonl`."""

    def __init__(self, options: TrainOptions, folder: Path, device: torch.device, cache: Path | None = None) -> None:
        """Read the data sets and build the model.

        cache: where encoded photos are kept for other runs; None keeps them in the run's folder until it is done.
        Raises DataError, ValueError, OSError and, without the `train` extra, ImportError.
        """
        options = dataclasses.replace(options, precision=choose_training_precision(options.precision, device))
        self.options, self.folder, self.device = options, folder, device
        self.console = stderr_console()
        self.sets = [read_data_set(argument) for argument in options.data]
        names = [s.name for s in self.sets]
        if len(set(names)) < len(names):
            raise DataError(f"two data sets are named {max(names, key=names.count)}; give their folders other names")
        self.train_photos = [photo for s in self.sets for photo in s.split("train")]
        if not self.train_photos:
            raise DataError("no photo of any data set is marked train")
        self.order: list[int] = []
        begin = 0
        for data_set in self.sets:
            end = begin + len(data_set.split("train"))
            self.order += list(range(begin, end)) * data_set.repeat
            begin = end
        torch.manual_seed(options.seed)
        self.model = self.build_model()
        if not isinstance(self.model.decoder, AttentionDecoder) and (
            options.attention_boxes or options.attention_regularization
        ):
            raise DataError(f"--attention-boxes and --attention-regularization: {self.model.config.decoder} has none")
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Batch-norm statistics stay ImageNet's even when the rest is fine-tuned: our batches are small.
        self.model.eval().encoder.requires_grad_(options.fine_tune)
        for block in self.model.encoder.blocks[: options.frozen_blocks]:
            block.requires_grad_(False)
        self.cache = cache or folder / "features"
        self.keep_cache = cache is not None
        # Files per data set, so that other mixtures can use them too.
        self.train_stores: dict[str, FeatureStore] = {}
        self.dev_stores: dict[str, FeatureStore] = {}
        for data_set in () if options.fine_tune else self.sets:
            for split, views, stores in (("train", options.views, self.train_stores), ("dev", 1, self.dev_stores)):
                if photos := data_set.split(split):
                    size, encoder = self.model.config.image_size, self.model.encoder
                    store = FeatureStore(self.cache, encoder, photos, views, size, device, options.precision)
                    stores[data_set.name] = store
        self.captions = encode_captions(self.train_photos, self.model.vocabulary, self.model.config.max_length)
        if options.self_critical:
            # Two entries per photo, as it is and mirrored.
            turns = ((photo, turn) for photo in self.train_photos for turn in (str, mirror))
            self.reward = CiderD([[tokenize(turn(c)) for c in photo.captions] for photo, turn in turns])
        self.boxes = read_boxes(Path(options.attention_boxes)) if options.attention_boxes else {}
        self.person_words = torch.tensor([word in PERSON_WORDS for word in self.model.vocabulary.words], device=device)
        self.seen = {" ".join(tokenize(caption)) for photo in self.train_photos for caption in photo.captions}
        groups: list[dict[str, Any]] = [
            {"params": list(self.model.decoder.parameters()), "peak": options.learning_rate}
        ]
        if options.fine_tune:
            trained = [p for p in self.model.encoder.parameters() if p.requires_grad]
            groups.append({"params": trained, "peak": options.encoder_learning_rate})
        self.optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay, betas=(0.9, 0.98))
        parameters = [p for group in groups for p in group["params"]]
        averaging = options.average or options.init_share
        self.average = WeightAverage(parameters, options.average, options.init_share) if averaging else None
        texts = [self.model.vocabulary.words, [(p.path.name, p.split, p.captions) for s in self.sets for p in s.photos]]
        # What the options name by its file only.
        self.begun_with = {
            "captions": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
            "weights": hash_weights(self.model).hexdigest() if options.init or options.encoder_weights else None,
        }
        self.epoch = 0
        self.log: list[dict[str, Any]] = []  # a row per epoch
        self.baseline = Baseline(len(self.model.vocabulary))
        self.best = -math.inf

    def build_model(self) -> CaptionModel:
        """The checkpoint to begin from, or a fresh decoder on ImageNet's encoder. Raises ModelError."""
        options = self.options
        given = {k: v for k, v in dataclasses.asdict(options).items() if k != "data"}
        record: dict[str, Any] = {
            "command": shlex.join(["capcli", "train", *sys.argv[2:]]) if sys.argv[1:2] == ["train"] else None,
            "data": [
                {
                    "name": s.name,
                    "photos": len(s.split("train")),
                    "captions": sum(len(photo.captions) for photo in s.split("train")),
                    "repeat": s.repeat,
                }
                for s in self.sets
            ],
        }
        names = {field.name for field in dataclasses.fields(ModelConfig)}
        asked = {name: value for name, value in vars(options).items() if name in names and value is not None}
        if options.init:
            model = CaptionModel.load(Path(options.init))
            record["begun_from"] = model.config.training
            model.config = dataclasses.replace(model.config, scores={}, unsure_below=None, **asked)
            model.decoder.dropout.p = model.config.dropout
        else:
            if kind := ENCODERS.get(asked.get("encoder", ModelConfig.encoder)):
                asked.setdefault("encoder_stride", kind.strides[0])
            sentences = (caption for photo in self.train_photos for caption in photo.captions)
            words = Vocabulary.build(sentences, MIN_COUNT if options.min_count is None else options.min_count)
            model = CaptionModel(ModelConfig(**asked), words)
            model.encoder.load_pretrained(self.encoder_state(model.config.encoder))
        record["options"] = {k: getattr(model.config, k) if k in names else v for k, v in given.items()}
        model.config = dataclasses.replace(model.config, training=record)
        return model

    def encoder_state(self, name: str) -> dict[str, Tensor]:
        """The weights that the encoder begins with. Raises DataError for a file that holds none."""
        path = self.options.encoder_weights
        if path is None:
            return pretrained_weights(name)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # pickle's, zipfile's and PyTorch's own
            raise DataError(f"{path}: not a state dict ({str(error).splitlines()[0]})") from None
        if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
            raise DataError(f"{path}: not a state dict: its values are no tensors")
        return state

    def open_stores(self) -> None:
        """Encode the photos, with a progress bar, unless that is done. Raises ImageError and OSError."""
        for split, stores in (("train", self.train_stores), ("dev", self.dev_stores)):
            for name, store in stores.items():
                photos, views, *_ = store.shapes[0]
                with progress(self.console, f"encoding {name} {split} photos", photos * views) as advance:
                    store.open(advance)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, the same each time they are asked for."""
        views = [is_mirrored(view) for view in range(2 if self.options.fine_tune else self.options.views)]
        seed = self.options.seed * 100_003 + epoch
        samples = SAMPLES if self.options.self_critical else 0
        return epoch_batches(self.captions, self.order, views, self.options.captions_per_batch, seed, samples)

    def train(self) -> None:
        """Train to the last epoch, keeping the best checkpoint and the last, then measure and describe the best.

        Raises DataError, ImageError, ModelError and OSError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_log()  # by which the folder is known for a run's before there is anything to resume
        finished = self.epoch >= self.options.epochs
        if not finished:
            self.console.print(f"training on {self.device} in {self.options.precision}", markup=False)
            self.open_stores()
        while self.epoch < self.options.epochs:
            started = time.perf_counter()
            result = self.train_epoch()
            seconds = time.perf_counter() - started
            with self.average.applied() if self.average else contextlib.nullcontext():
                scores, examples = self.validate()
                mean = self.keep_if_best(scores)
            row = {"epoch": self.epoch + 1, **result, "seconds": round(seconds, 1), "dev": scores, "cider": mean}
            self.report(row, examples)
            self.epoch += 1
            self.save_last(row)
        if finished and read_config(self.folder).scores.keys() == {s.name for s in self.sets if s.split("dev")}:
            done = f"epoch {self.epoch}/{self.epoch} is done and measured"
            self.console.print(f"{done}: nothing is left to do", markup=False)
        else:
            self.measure()
        if not self.keep_cache:
            for store in (*self.train_stores.values(), *self.dev_stores.values()):
                store.delete()
        self.console.print(f"the best checkpoint is in {self.folder}", markup=False)

    def keep_if_best(self, scores: dict[str, dict[str, Any]]) -> float:
        """Save the model if no earlier epoch had a better mean CIDEr over all dev photos, which is returned."""
        photos = {s.name: len(s.split("dev")) for s in self.sets}
        mean = sum(scores[n]["cider"] * photos[n] for n in scores) / max(sum(photos.values()), 1)
        # Without dev photos, or with one, whose CIDEr is always 0, nothing tells epochs apart: the last is kept.
        if mean >= self.best or not scores:
            self.best = mean
            self.model.save(self.folder, torch.float16)
        return float(mean)

    def train_epoch(self) -> dict[str, float]:
        """One pass over the training photos. Returns the mean over batches of the loss or the reward."""
        # Seeded by the epoch, so that a resumed run draws the dropout that an uninterrupted one would have drawn.
        torch.manual_seed(self.options.seed * 7919 + self.epoch)
        # The captions that are rewarded are to be those of the decoder as it will be used: without dropout.
        self.model.decoder.train(not self.options.self_critical)
        if isinstance(self.model.decoder, AttentionDecoder):
            first = self.epoch < EXPECTED_FIRST * self.options.epochs
            self.model.decoder.expected_share = 1.0 if first else AttentionDecoder.expected_share
        what, total = "reward" if self.options.self_critical else "loss", 0.0
        with progress(self.console, f"epoch {self.epoch + 1}/{self.options.epochs}", len(self.order)) as advance:
            steps = shown = 0
            for batch, seen in self.shown(self.batches(self.epoch)):
                # By photos, since epochs differ in their number of batches; at the middle of this one.
                passed = self.epoch + (shown + len(batch.photos) / 2) / len(self.order)
                rate = learning_rate_at(passed / self.options.epochs)
                shown += len(batch.photos)
                steps += 1
                for group in self.optimizer.param_groups:
                    group["lr"] = rate * group["peak"]
                with autocast(self.device, self.options.precision):
                    features = self.model.encoder(seen) if isinstance(seen, Tensor) else seen
                    if self.options.self_critical:
                        loss, figure = self.self_critical_loss(features, batch)
                    else:
                        loss = self.likelihood_loss(features, batch)
                        figure = loss.item()
                self.optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
                if not norm.isfinite():
                    raise DataError(
                        f"{self.folder}: the gradients of epoch {self.epoch + 1} are no longer finite numbers: "
                        "begin anew with a lower --learning-rate"
                    )
                self.optimizer.step()
                if self.average:
                    self.average.update()
                total += figure
                advance(len(batch.photos), f"{what} {figure:.3f}")
        self.model.decoder.eval()
        return {what: total / steps}

    def shown(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Features | Tensor]]:
        """Each batch with what the encoder said of its photos, or with their pixels while it is trained itself."""
        if not self.options.fine_tune:
            for batch in batches:
                yield batch, self.on_device(look_up([*self.train_stores.values()], batch.photos, batch.views))
            return
        size = self.model.config.image_size

        def load(batch: Batch) -> Tensor:
            views = zip(batch.photos.tolist(), self.views_of(batch), strict=True)
            return torch.stack([load_view(self.train_photos[photo], view, size) for photo, view in views])

        for batch, pixels in ahead(load, batches):
            yield batch, pixels.to(self.device, memory_format=torch.channels_last)

    def likelihood_loss(self, features: Features, batch: Batch) -> Tensor:
        """How badly the decoder predicts people's words; for hard attention also what its choices were worth."""
        samples = self.options.monte_carlo_samples if self.model.config.decoder_kind.samples_locations else 1
        targets = batch.targets.to(self.device).repeat_interleave(samples, 1)
        reading = self.model.decoder(features, batch.words.to(self.device).repeat_interleave(samples, 1))
        loss = caption_loss(reading.logits, targets, self.options.label_smoothing)
        if self.options.attention_regularization and reading.distribution is not None:
            loss = loss + self.options.attention_regularization * doubly_stochastic(reading.distribution, targets)
        loss = loss + self.supervision(reading, targets, batch)
        if self.model.config.decoder_kind.samples_locations:
            advantage = self.baseline.reward_to_go(reading.logits, targets)
            loss = loss + hard_attention_loss(reading, targets, advantage)
        return loss

    def self_critical_loss(self, features: Features, batch: Batch) -> tuple[Tensor, float]:
        """The policy loss of freshly sampled captions, and their mean CIDEr-D."""
        drawn = sample_captions(self.model.decoder, features, SAMPLES, self.model.config.max_length)
        words = self.model.vocabulary.words
        rewards = torch.empty(drawn.shape[:2])
        for i, (photo, view, several) in enumerate(
            zip(batch.photos.tolist(), batch.views.tolist(), drawn.tolist(), strict=True)
        ):
            for j, ids in enumerate(several):
                sentence = [words[index] for index in ids if index > UNKNOWN]
                rewards[i, j] = self.reward.score(sentence, 2 * photo + is_mirrored(view))
        given = torch.cat([torch.full_like(drawn[:, :, :1], START), drawn[:, :, :-1]], 2)
        reading = self.model.decoder(features, given)
        loss = policy_loss(reading.logits, drawn, advantages(rewards).to(self.device))
        return loss + self.supervision(reading, drawn, batch), float(rewards.mean())

    def supervision(self, reading: Reading, targets: Tensor, batch: Batch) -> Tensor | float:
        """How far attention strays from the people in a batch's photos while it names them."""
        if not self.boxes or reading.distribution is None:
            return 0.0
        rows, columns = self.model.config.grid
        places = torch.zeros(len(batch.photos), rows * columns, dtype=torch.bool)
        for i, (photo, view) in enumerate(zip(batch.photos.tolist(), self.views_of(batch), strict=True)):
            name = self.train_photos[photo].path.name
            if name in self.boxes:
                shown = seen_in_view(self.boxes[name], view_box(name, view), is_mirrored(view))
                places[i] = cells_inside(shown, rows, columns, self.model.encoder.kind.cell_offset)
        named = self.person_words
        return SUPERVISION * attention_supervision(reading.distribution, targets, named, places.to(self.device))

    def views_of(self, batch: Batch) -> list[int]:
        """Which views of its photos a batch shows; fine-tuning crops in a way that no epoch and no seed repeats."""
        first = 2 + 2 * (self.epoch + 1000 * self.options.seed) if self.options.fine_tune else 0
        return [first + view for view in batch.views.tolist()]

    def dev_features(self, data_set: DataSet) -> Iterator[Features]:
        """Features of a data set's dev photos, in batches."""
        photos = data_set.split("dev")
        if self.options.fine_tune:
            size, precision = self.model.config.image_size, self.options.precision
            yield from encode_views(self.model.encoder, photos, 1, size, self.device, precision)
            return
        for rows in torch.arange(len(photos)).split(64):
            yield self.on_device(look_up([self.dev_stores[data_set.name]], rows, torch.zeros_like(rows)))

    def validate(self) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str, str]]]:
        """Scores on every data set's dev photos, and some captions: (photo, ours, a person's)."""
        options = BeamOptions(**self.model.config.decoding)
        scores, examples = {}, []
        for data_set in self.sets:
            photos = data_set.split("dev")
            if not photos:
                continue
            captions: list[str] = []
            with progress(self.console, f"captioning {data_set.name} dev photos", len(photos)) as advance:
                for features in self.dev_features(data_set):
                    with autocast(self.device, self.options.precision):
                        found = beam_search(self.model.decoder, features, options)
                    captions += [self.model.vocabulary.decode(ids) for ids in found.words[:, 0].tolist()]
                    advance(len(features.global_vector))
            results = score_captions(captions, [photo.captions for photo in photos], meteor=False)
            del results["cider_each"], results["intervals"]
            scores[data_set.name] = results | describe(captions, self.seen)
            stride = max(1, len(photos) // SHOWN_CAPTIONS)
            shown = list(zip(photos, captions, strict=True))[::stride][:SHOWN_CAPTIONS]
            examples += [(photo.path.name, caption, photo.captions[0]) for photo, caption in shown]
        return scores, examples

    def report(self, row: dict[str, Any], examples: list[tuple[str, str, str]]) -> None:
        """One line per epoch and data set, and a few captions beside what a person wrote."""
        say = self.console.print
        what = "reward" if self.options.self_critical else "loss"
        say(f"epoch {row['epoch']}/{self.options.epochs}: {what} {row[what]:.3f}, {row['seconds']:.0f} s", markup=False)
        for name, scores in row["dev"].items():
            figures = "  ".join(f"{k} {scores[k]:.1f}" for k in ("bleu_4", "rouge_l", "cider", "repetition"))
            say(f"  {name} dev: {figures}  distinct_words {scores['distinct_words']}", markup=False)
        for name, ours, theirs in examples:
            say(f"  {name}: {ours}  (a person: {theirs})", markup=False)

    def on_device(self, features: Features) -> Features:
        """Stored features on the device, in the run's number format."""
        dtype = PRECISIONS[self.options.precision]
        return Features(features.annotations.to(self.device, dtype), features.global_vector.to(self.device, dtype))

    def trained(self) -> torch.nn.Module:
        """The part of the model that changes."""
        return self.model if self.options.fine_tune else self.model.decoder

    def save_last(self, row: dict[str, Any]) -> None:
        """Everything a resumed run needs in one file, replaced at once; then the log, which can be told from it."""
        tensors = {f"model.{name}": tensor for name, tensor in self.trained().state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
        self.log.append(row)
        record = {
            "options": dataclasses.asdict(self.options),
            "begun_with": self.begun_with,
            "epoch": self.epoch,
            "best": self.best,
            "log": self.log,
        }
        tensors["baseline"] = self.baseline.means
        if self.average:
            record["updates"] = self.average.updates
            tensors |= {f"average.{index}": mean for index, mean in enumerate(self.average.tensors)}
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(self.folder / LAST_FILE, save(content, metadata={"run": json.dumps(record)}))
        self.write_log()

    def write_log(self) -> None:
        """The rows so far, one a line."""
        write_whole(self.folder / LOG_FILE, "".join(json.dumps(row) + "\n" for row in self.log).encode())

    def resume(self) -> None:
        """Go back to the last finished epoch.

        Raises DataError if the run was begun with other options or other data, or its file is damaged.
        """
        for leftover in self.folder.glob(".capcli-*.tmp"):  # of a run that was killed while it wrote
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
        # Runs from before this was recorded have nothing to compare.
        for what, digest in record.get("begun_with", {}).items():
            if self.begun_with[what] != digest:
                raise DataError(f"{path}: begun with other {what}; restore them, or name another folder")
        self.trained().load_state_dict(
            {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        )
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, key = rest.partition(".")
                state.setdefault(int(index), {})[key] = tensor
        if self.average:
            means = [tensors[f"average.{index}"] for index in range(len(self.average.tensors))]
            self.average.restore(means, record["updates"])
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        self.baseline.means = tensors["baseline"]
        self.epoch, self.best, self.log = record["epoch"], record["best"], record["log"]
        self.write_log()
        self.console.print(f"resuming after epoch {self.epoch}", markup=False)

    def measure(self) -> None:
        """Measure the checkpoint as it is stored, and write its card."""
        stored = CaptionModel.load(self.folder)
        captioner = Captioner(stored, self.device, self.options.precision)
        scores, gains = {}, []
        for data_set in self.sets:
            if data_set.split("dev"):
                self.console.print(f"scoring {data_set.name} dev", markup=False)
                result = evaluate_captioner(captioner, data_set, "dev", captioner.options, batch_size=32)
                speed = f"{result['images_per_second']} images/s in {captioner.precision}"
                self.console.print(f"  {speed}, {score_line(result['scores'])}", markup=False)
                found = result["scores"]
                intervals = found.pop("intervals")
                scores[data_set.name] = {k: round(v, 2) if isinstance(v, float) else v for k, v in found.items()}
                scores[data_set.name] |= {
                    f"{k}_interval": f"{low:.1f} to {high:.1f}" for k, (low, high) in intervals.items()
                }
                scores[data_set.name]["precision"] = captioner.precision
                gains += [row["gain"] for row in result["captions"]]
        unsure_below = least_gain(gains) if gains else None
        stored.config = dataclasses.replace(stored.config, scores=scores, unsure_below=unsure_below)
        stored.save_description(self.folder)


def learning_rate_at(progress: float) -> float:
    """The share of the learning rates after this share of a run: linear warm-up, then a cosine down to FINAL_RATE."""
    if progress < WARM_UP:
        return progress / WARM_UP
    cosine = 0.5 + 0.5 * math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))
    return FINAL_RATE + (1 - FINAL_RATE) * cosine
