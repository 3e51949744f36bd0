"""Learning the agreement of sentences with photos, and its weight in ranking a beam."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.card import made_with
from capcli.checkpoints.store import ModelError, copy_beside
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.decoding.restraint import content_words, cost
from capcli.model.agreement import Agreement
from capcli.model.precision import choose_training_precision
from capcli.model.vocabulary import END, PAD, Vocabulary
from capcli.progress import progress, stderr_console
from capcli.training.data.datasets import DataError, DataSet, Photo, encode_captions
from capcli.training.data.features import encode_views, is_mirrored
from capcli.training.learning.setup import data_rows
from capcli.training.measuring.metrics import score_captions
from capcli.training.measuring.validation import measure, with_dev

SIZE = 512  # channels of the common space
VIEWS = 2  # of each photo: itself and its mirror image
EPOCHS = 12
BATCH = 512  # photos, each told from all the others
LEARNING_RATE = 1.5e-3
WEIGHT_DECAY = 0.02
WARM_UP = 0.05  # share of the steps in which the learning rate rises
FEWEST = 8  # photos to learn from
WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # tried on dev photos
UNTRIED_WEIGHT = 1.0  # without dev photos, or with too few to tell


def learn_agreement(
    sets: list[DataSet],
    init: Path,
    folder: Path,
    beam: int | None,
    device: torch.device,
    seed: int,
    command: str | None,
    restraint: float | None = None,
) -> None:
    """Write a checkpoint that also ranks a beam's sentences by their agreement with the photo.

    Encoder and decoder stay as they are; dev CIDEr decides the weight of agreement.

    init: folder of the checkpoint to begin from.
    folder: of the new checkpoint.
    beam: width of the ranked search, 2 or more; None keeps the checkpoint's.
    device: encodes in bfloat16 if it multiplies that natively.
    command: for the model card.
    restraint: deduction from the score per content word, 0 to 1; None keeps the checkpoint's.

    Raises DataError for too few photos or if agreement improves no dev caption, ModelError for a taught checkpoint,
    ImageError, OSError, and ImportError without the `train` extra.
    """
    console, started = stderr_console(), time.perf_counter()
    photos = [photo for data_set in sets for photo in data_set.split("train")]
    if len(photos) < FEWEST:
        raise DataError(f"{len(photos)} training photos are too few to learn what belongs together")
    model = CaptionModel.load(init)
    if model.config.words_before is not None:
        raise ModelError(f"{init}: was taught; do this with what it began as, and teach that")
    asked: dict[str, Any] = {"beam": beam, "restraint": restraint}
    changes = {name: value for name, value in asked.items() if value is not None}
    model.config = dataclasses.replace(model.config, **changes)
    model.to(device)
    agreement = fit(console, model, photos, device, seed)
    weight = choose_weight(console, model, agreement, sets, device)
    model.agreement = agreement
    decoding = {name: getattr(model.config, name) for name in asked}
    record = {
        "command": command,
        "made_with": made_with(device),
        "data": data_rows(sets),
        "begun_from": model.config.training,
        "options": {"init": init.name, "epochs": EPOCHS, **decoding, "seed": seed},
    }
    learnt: dict[str, Any] = {"agreement": weight, "agreement_size": SIZE, "training": record}
    forgotten: dict[str, Any] = {"scores": {}, "unsure_below": None, "confidence": []}
    model.config = dataclasses.replace(model.config, **learnt, **forgotten)
    model.cpu().save(folder, torch.float16)
    copy_beside(init, folder)  # from the encoder, which is unchanged
    measure(console, folder, sets, device, "fp32")
    console.print(f"done in {time.perf_counter() - started:.0f} s: capcli caption --model {folder}", markup=False)


def fit(console: Console, model: CaptionModel, photos: list[Photo], device: torch.device, seed: int) -> Agreement:
    """Return the agreement of captions with photos, learnt from scratch. Raises ImageError."""
    vectors = encode(console, model, photos, device)
    torch.manual_seed(seed)
    agreement = Agreement(len(model.vocabulary), vectors.shape[2], SIZE).to(device)
    captions = [
        [[caption[:-1] if caption[-1] == END else caption for caption in turned] for turned in photo]
        for photo in encode_captions(photos, model.vocabulary, model.config.max_length)
    ]
    with progress(console, "learning what belongs together", EPOCHS) as advance:
        for loss in learn(agreement, vectors, captions, seed):
            advance(1, f"loss {loss:.3f}")
    return agreement


def encode(console: Console, model: CaptionModel, photos: list[Photo], device: torch.device) -> Tensor:
    """Return the photos' global vectors, (photos, VIEWS, channels). Raises ImageError."""
    found, precision = [], choose_training_precision("auto", device)
    with progress(console, "encoding photos", VIEWS * len(photos), "views") as advance:
        for features in encode_views(model.encoder, photos, VIEWS, model.config.image_size, device, precision):
            found.append(features.global_vector.float())  # not the annotation vectors, which are 64 times as large
            advance(len(features.global_vector))
    return torch.cat(found).view(len(photos), VIEWS, -1).clone()  # a tensor outside inference mode


def learn(
    agreement: Agreement, vectors: Tensor, captions: Sequence[Sequence[Sequence[list[int]]]], seed: int
) -> Iterator[float]:
    """Train by contrast, telling each photo's caption from the rest of its batch; yield each epoch's mean loss.

    An epoch shows each photo twice, with a random caption.

    agreement: is trained; afterwards it takes unnormalised vectors.
    vectors: (photos, VIEWS, channels).
    captions: ids as [photo][0, or 1 for the mirrored photo][caption].

    Source: Radford et al. 2021 (arXiv:2103.00020), figure 3.
    """
    mean, scale = vectors.mean((0, 1)), vectors.std((0, 1)) + 1e-3
    temperature = nn.Parameter(torch.tensor(2.5, device=vectors.device))  # a logarithm
    optimizer = AdamW([*agreement.parameters(), temperature], LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    rng, step = random.Random(seed), 0
    size = min(BATCH, len(vectors))
    per_epoch = 2 * (len(vectors) // size)
    steps = EPOCHS * per_epoch
    for _ in range(EPOCHS):
        agreement.train()
        total = 0.0
        for _ in range(2):
            order = rng.sample(range(len(vectors)), len(vectors))
            for begin in range(0, len(order) - size + 1, size):
                rows = order[begin : begin + size]
                views = [rng.randrange(VIEWS) for _ in rows]
                said = [rng.choice(captions[i][is_mirrored(view)]) for i, view in zip(rows, views, strict=True)]
                photos = agreement.photos((vectors[rows, views] - mean) / scale)
                cosines = photos @ agreement.sentences(padded(said).to(vectors.device)).T
                logits, own = cosines * temperature.exp(), torch.arange(size, device=vectors.device)
                loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
                optimizer.param_groups[0]["lr"] = (
                    LEARNING_RATE * min(1, (step + 1) / (WARM_UP * steps)) * (1 - step / steps)
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total, step = total + loss.item(), step + 1
        yield total / per_epoch
    with torch.no_grad():
        agreement.hidden.weight.div_(scale)
        agreement.hidden.bias.sub_(agreement.hidden.weight @ mean)
    agreement.eval()


def padded(sentences: Sequence[Sequence[int]]) -> Tensor:
    """Return one tensor of ids, (sentences, time)."""
    return nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in sentences], True, PAD)


@torch.inference_mode()
def choose_weight(
    console: Console, model: CaptionModel, agreement: Agreement, sets: list[DataSet], device: torch.device
) -> float:
    """Return the one of WEIGHTS, for agreement, with the highest dev CIDEr, or UNTRIED_WEIGHT if all tie; print all.

    Raises DataError if no weight raises CIDEr, and ImageError.
    """
    options, content = BeamOptions(**model.config.decoding), content_words(model.vocabulary)
    totals = dict.fromkeys((0.0, *WEIGHTS), 0.0)
    for data_set in with_dev(sets):
        name, photos = data_set.name, data_set.split("dev")
        captions: dict[float, list[str]] = {weight: [] for weight in totals}
        with progress(console, f"captioning {name} dev photos", len(photos), "photos") as advance:
            for features in encode_views(model.encoder, photos, 1, model.config.image_size, device, "fp32"):
                found = beam_search(model.decoder, features, options, model.vocabulary)
                cosines = agreement(agreement.photos(features.global_vector), found.words)
                costs = torch.from_numpy(cost(found.words.cpu().numpy(), content)).to(device)
                scores = found.scores - options.restraint * costs
                for weight, chosen in captions.items():
                    chosen += best(found.words, scores + weight * cosines, model.vocabulary)
                advance(len(features.global_vector))
        people = [photo.captions for photo in photos]
        ciders = {w: score_captions(said, people, meteor=False).get("cider", 0.0) for w, said in captions.items()}
        console.print(f"{name} dev: CIDEr " + ", ".join(f"{c:.1f} at {w:g}" for w, c in ciders.items()), markup=False)
        for weight, cider in ciders.items():
            totals[weight] += cider * len(photos)
    if len(set(totals.values())) == 1:
        return UNTRIED_WEIGHT
    weight = max(totals, key=lambda each: (totals[each], -each))
    if not weight:
        raise DataError("agreement makes no dev caption better; the checkpoint is left as it was")
    return weight


def best(words: Tensor, scores: Tensor, vocabulary: Vocabulary) -> list[str]:
    """Return each photo's highest-scoring sentence. words: (batch, beam, time); scores: (batch, beam)."""
    chosen = words[torch.arange(len(words)), scores.argmax(1)]
    return [vocabulary.decode(ids) for ids in chosen.tolist()]
