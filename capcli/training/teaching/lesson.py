"""A lesson: what is taught, and what must not be forgotten."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from capcli.checkpoints.caption_model import CaptionModel
from capcli.decoding.beam_search import beam_search
from capcli.decoding.options import BeamOptions
from capcli.model.config import ModelConfig
from capcli.model.decoders import Decoder
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, PAD, Vocabulary
from capcli.training.data.datasets import Photo, behind_start, encode_captions
from capcli.training.teaching.words import learn_words


@dataclass
class Lesson:
    """Hold what all learners share.

    before, old: the old decoder and its vocabulary.
    decoder, vocabulary: the same with new words, untrained.
    features: (photos × VIEWS, …), of taught photos, view by view.
    captions: their ids, see `encode_captions`.
    replay: features of remembered photos.
    sentences: (memory, 1, time) ids of their captions by the old decoder, from `<start>` on.
    targets: the same one step later.
    expected: (memory, 1, time, words), the old decoder's log-probabilities of every next word.
    """

    before: Decoder
    old: Vocabulary
    decoder: Decoder
    vocabulary: Vocabulary
    decoding: BeamOptions
    features: Features
    captions: list[list[tuple[list[int], ...]]]
    replay: Features
    sentences: Tensor
    targets: Tensor
    expected: Tensor
    seed: int
    config: ModelConfig


def prepare(model: CaptionModel, photos: list[Photo], features: Features, memory: Features, seed: int) -> Lesson:
    """Return a lesson, with the old decoder's captions of remembered photos computed once.

    model: its decoder gets the new words, see `learn_words`.
    photos, features: to be taught.
    memory: features of remembered photos.
    """
    before, old, decoding = copy.deepcopy(model.decoder), model.vocabulary, BeamOptions(**model.config.decoding)
    vocabulary = learn_words(model.decoder, old, photos, features)
    said = captions_of(before, memory, old, decoding)
    ids = [[*old.encode(caption), END] for caption in said]
    targets = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], True, PAD).unsqueeze(1)
    sentences = behind_start(targets)
    expected = torch.cat(
        [
            before(memory.take(rows), sentences[rows]).logits.log_softmax(-1).half()
            for rows in torch.arange(len(targets)).split(64)
        ]
    )
    return Lesson(
        before=before,
        old=old,
        decoder=model.decoder,
        vocabulary=vocabulary,
        decoding=decoding,
        features=features,
        captions=encode_captions(photos, vocabulary, model.config.max_length),
        replay=memory,
        sentences=sentences,
        targets=targets,
        expected=expected,
        seed=seed,
        config=model.config,
    )


def captions_of(decoder: Decoder, features: Features, vocabulary: Vocabulary, options: BeamOptions) -> list[str]:
    """Return a decoder's caption of each photo."""
    found = []
    for rows in torch.arange(len(features.global_vector)).split(64):
        words = beam_search(decoder, features.take(rows), options, vocabulary).words[:, 0]
        found += [vocabulary.decode(ids) for ids in words.tolist()]
    return found
