"""Captions of a lesson's photos by the decoder before or after."""

from __future__ import annotations

import torch

from capcli.captioner import candidates_of
from capcli.decoding.beam_search import beam_search
from capcli.engines.torch import as_arrays
from capcli.maps.shown import sentence
from capcli.model.decoders import Decoder
from capcli.model.vocabulary import Vocabulary
from capcli.training.teaching.lesson import Lesson, captions_of
from capcli.training.teaching.views import VIEWS
from capcli.training.watching.watching import Sentence


def look(lesson: Lesson, decoder: Decoder, vocabulary: Vocabulary, photos: list[int]) -> list[Sentence]:
    """Return a decoder's captions of some of the lesson's photos, with attention. vocabulary: the decoder's."""
    found = beam_search(decoder, lesson.features.take(torch.tensor(photos) * VIEWS), lesson.decoding, vocabulary)
    return [sentence(several[0]) for several in candidates_of(as_arrays(found), vocabulary, lesson.config)]


def describe(lesson: Lesson, decoder: Decoder, vocabulary: Vocabulary, photos: list[int]) -> dict[int, str]:
    """Return a decoder's captions of some of the lesson's photos. vocabulary: the decoder's."""
    features = lesson.features.take(torch.tensor(photos) * VIEWS)
    return dict(zip(photos, captions_of(decoder, features, vocabulary, lesson.decoding), strict=True))
