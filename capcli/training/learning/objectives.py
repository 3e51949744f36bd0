"""Objectives of training: each computes a batch's loss and the figure to report.

For the mathematics see losses.py and self_critical.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from capcli.checkpoints.caption_model import CaptionModel
from capcli.model.decoders import AttentionDecoder, Decoder, Reading
from capcli.model.encoders import Features
from capcli.model.english import FUNCTION_WORDS
from capcli.model.vocabulary import PAD, UNKNOWN, tokenize
from capcli.training.data.datasets import Batch, Photo, behind_start, mirror
from capcli.training.data.features import is_mirrored, view_box
from capcli.training.learning.losses import (
    Baseline,
    attention_supervision,
    caption_loss,
    doubly_stochastic,
    hard_attention_loss,
)
from capcli.training.learning.options import TrainOptions
from capcli.training.learning.ranks import Ranks
from capcli.training.learning.self_critical import CiderD, advantages, policy_loss, sample_captions
from capcli.training.measuring.pointing import PERSON_WORDS, Box, cells_inside, read_boxes, seen_in_view

SUPERVISION = 2.0  # weight of a word's attention, relative to its likelihood, in photos with boxes
# The share of hard attention's epochs in which every context is the expected one: locations drawn before attention has
# learnt anything are noise. Of six epochs, drawing from the first reaches a dev CIDEr of 36.5, from the third 42.8.
EXPECTED_FIRST = 1 / 3
SAMPLES = 5  # captions drawn per photo in self-critical training


class Objective(Protocol):
    """Compute the loss of batches.

    figure: name of the reported figure, loss or reward.
    samples: captions drawn from the decoder per photo; 0 if it reads people's.
    """

    figure: str
    samples: int

    def begin_epoch(self, decoder: Decoder, done: float) -> None:
        """Prepare the decoder for an epoch. done: share of the epochs that are over, 0 to 1."""

    def __call__(self, model: CaptionModel, features: Features, batch: Batch) -> tuple[Tensor, float]:
        """Return a batch's loss, (), with gradient, and the figure to report.

        With several ranks the loss is this one's contribution, whose gradients are to be summed; the figure is the
        whole batch's.

        features: of the batch's photos, on the model's device.

        Raises RankLost.
        """


def choose_objective(
    options: TrainOptions, model: CaptionModel, photos: list[Photo], baseline: Baseline, ranks: Ranks
) -> Objective:
    """Return the objective the options ask for.

    photos: all training photos, indexed by batches.
    baseline: for hard attention's rewards.
    ranks: processes training together.

    Raises DataError for a damaged file of boxes.
    """
    boxes = read_boxes(Path(options.attention_boxes)) if options.attention_boxes else {}
    supervision = PeopleSupervision(boxes, model, photos) if boxes else None
    if options.self_critical:
        return SelfCritical(photos, supervision, ranks, options.stray_penalty)
    if model.config.decoder_kind.samples_locations:
        return Reinforce(options, supervision, baseline, ranks)
    return CrossEntropy(options, supervision, ranks)


class PeopleSupervision:
    """Penalise attention away from the people in photos while the decoder names them."""

    def __init__(self, boxes: dict[str, list[Box]], model: CaptionModel, photos: list[Photo]) -> None:
        """Prepare the training photos.

        boxes: of people, by photo file name.
        photos: all training photos, indexed by batches.
        """
        self.boxes, self.names = boxes, [photo.path.name for photo in photos]
        self.grid, self.cell_offset = model.config.grid, model.config.encoder_kind.cell_offset
        self.person_words = torch.tensor([word in PERSON_WORDS for word in model.vocabulary.words])

    def __call__(self, reading: Reading, targets: Tensor, batch: Batch) -> Tensor:
        """Return `attention_supervision`, (), times SUPERVISION.

        reading: of the targets, by a decoder with attention.
        targets: (batch, captions, time) ids.
        """
        assert reading.distribution is not None
        rows, columns = self.grid
        places = torch.zeros(len(batch.photos), rows * columns, dtype=torch.bool)
        for i, (photo, view) in enumerate(zip(batch.photos.tolist(), batch.views.tolist(), strict=True)):
            if (name := self.names[photo]) in self.boxes:
                shown = seen_in_view(self.boxes[name], view_box(name, view), is_mirrored(view))
                places[i] = cells_inside(shown, rows, columns, self.cell_offset)
        named, places = self.person_words.to(targets.device), places.to(targets.device)
        return SUPERVISION * attention_supervision(reading.distribution, targets, named, places)


class CrossEntropy:
    """Teach the decoder people's words; the loss is per word, with the options' terms for attention."""

    figure, samples = "loss", 0

    def __init__(self, options: TrainOptions, supervision: PeopleSupervision | None, ranks: Ranks) -> None:
        """Set the loss's terms.

        supervision: of attention, or None.
        ranks: processes training together.
        """
        self.options, self.supervision, self.ranks = options, supervision, ranks

    def begin_epoch(self, decoder: Decoder, done: float) -> None:
        """Turn dropout on."""
        decoder.train()

    def __call__(self, model: CaptionModel, features: Features, batch: Batch) -> tuple[Tensor, float]:
        """Return a batch's loss, also the figure to report; see `Objective`."""
        device = features.annotations.device
        loss, _ = self.read(model.decoder, features, batch, batch.words.to(device), batch.targets.to(device))
        return loss, self.ranks.total(loss.item())

    def read(
        self, decoder: Decoder, features: Features, batch: Batch, words: Tensor, targets: Tensor
    ) -> tuple[Tensor, Reading]:
        """Return the loss, (), of reading sentences, and the reading.

        features: of the batch's photos.
        words, targets: (batch, captions, time) ids, as in `Batch`.
        """
        if self.options.word_dropout:
            dropped = torch.rand(words.shape, device=words.device) < self.options.word_dropout
            words = words.masked_fill(dropped & (words > UNKNOWN), UNKNOWN)
        reading = decoder(features, words)
        mask = targets != PAD
        share = self.ranks.share(mask, batch)
        loss = share * caption_loss(reading.logits, targets, self.options.label_smoothing)
        if self.options.attention_regularization:
            weight = self.options.attention_regularization * self.ranks.share(mask.any(2), batch)  # per caption
            loss = loss + weight * doubly_stochastic(reading.distribution, targets)
        if self.supervision:
            loss = loss + share * self.supervision(reading, targets, batch)
        return loss, reading


class Reinforce(CrossEntropy):
    """Teach the decoder people's words and, by REINFORCE, hard attention where to look.

    Source: Xu et al. 2015 §4.1.
    """

    def __init__(
        self, options: TrainOptions, supervision: PeopleSupervision | None, baseline: Baseline, ranks: Ranks
    ) -> None:
        """Set the loss's terms; see CrossEntropy. baseline: of rewards."""
        super().__init__(options, supervision, ranks)
        self.baseline = baseline

    def begin_epoch(self, decoder: Decoder, done: float) -> None:
        """Turn dropout on; in the first epochs, draw no locations."""
        super().begin_epoch(decoder, done)
        assert isinstance(decoder, AttentionDecoder)
        decoder.expected_share = 1.0 if done < EXPECTED_FIRST else AttentionDecoder.expected_share

    def __call__(self, model: CaptionModel, features: Features, batch: Batch) -> tuple[Tensor, float]:
        device, count = features.annotations.device, self.options.monte_carlo_samples
        words, targets = (ids.to(device).repeat_interleave(count, 1) for ids in (batch.words, batch.targets))
        loss, reading = self.read(model.decoder, features, batch, words, targets)
        counted = torch.full_like(targets, PAD) if batch.idle else targets
        advantage = self.baseline.reward_to_go(reading.logits, counted)
        loss = loss + self.ranks.share(targets != PAD, batch) * hard_attention_loss(reading, targets, advantage)
        return loss, self.ranks.total(loss.item())


class SelfCritical:
    """Reward captions drawn from the decoder by their CIDEr-D.

    Source: Rennie et al. 2017 (arXiv:1612.00563).
    """

    figure, samples = "reward", SAMPLES

    def __init__(
        self, photos: list[Photo], supervision: PeopleSupervision | None, ranks: Ranks, stray_penalty: float = 0.0
    ) -> None:
        """Prepare references: each training photo's, as it is and mirrored.

        supervision, ranks: see CrossEntropy.
        stray_penalty: deduction per content word in no reference, 0 or more.
        """
        turns = ((photo, turn) for photo in photos for turn in (str, mirror))
        references = [[tokenize(turn(caption)) for caption in photo.captions] for photo, turn in turns]
        self.reward, self.stray_penalty = CiderD(references), stray_penalty
        self.held = [FUNCTION_WORDS.union(*sentences) for sentences in references] if stray_penalty else []
        self.supervision, self.ranks = supervision, ranks

    def begin_epoch(self, decoder: Decoder, done: float) -> None:
        """Turn dropout off, to reward captions of the decoder as it will be used."""
        decoder.eval()

    def __call__(self, model: CaptionModel, features: Features, batch: Batch) -> tuple[Tensor, float]:
        """Return a batch's loss, and the mean reward of the drawn captions, at most 10."""
        drawn = sample_captions(model.decoder, features, self.samples, model.config.max_length)
        words, rewards = model.vocabulary.words, torch.empty(drawn.shape[:2])
        shown = zip(batch.photos.tolist(), batch.views.tolist(), drawn.tolist(), strict=True)
        for i, (photo, view, captions) in enumerate(shown):
            for j, ids in enumerate(captions):
                sentence = [words[index] for index in ids if index > UNKNOWN]
                turned = 2 * photo + is_mirrored(view)
                rewards[i, j] = self.reward.score(sentence, turned)
                if self.stray_penalty:
                    rewards[i, j] -= self.stray_penalty * sum(word not in self.held[turned] for word in sentence)
        reading = model.decoder(features, behind_start(drawn))
        loss = policy_loss(reading.logits, drawn, advantages(rewards).to(drawn.device))
        if self.supervision:
            loss = loss + self.supervision(reading, drawn, batch)
        reward = self.ranks.share(torch.ones_like(rewards, dtype=torch.bool), batch) * float(rewards.mean())
        return self.ranks.share(drawn != PAD, batch) * loss, self.ranks.total(reward)
