"""New words: a person's, which the checkpoint does not know."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

from capcli.model.decoders import Decoder
from capcli.model.encoders import Features
from capcli.model.vocabulary import SPECIAL_WORDS, Vocabulary, tokenize
from capcli.training.data.datasets import Photo, behind_start
from capcli.training.teaching.views import VIEWS

MIN_COUNT = 2  # captions that must have a word for it to be learnt


def learn_words(decoder: Decoder, old: Vocabulary, photos: list[Photo], features: Features) -> Vocabulary:
    """Add to a decoder the words of MIN_COUNT captions or more, and return the new vocabulary.

    A new word begins as the mean of words the decoder expects in its place, weighted by probability.

    photos, features: to be taught.
    """
    counts = Counter(word for p in photos for caption in p.captions for word in set(tokenize(caption)))
    new = sorted(word for word, count in counts.items() if count >= MIN_COUNT and word not in old.ids)
    vocabulary = Vocabulary([*old.words, *new])
    weight, bias = decoder.embedding.weight.data, decoder.output_bias.data
    rows, biases, seen = weight.new_zeros(len(new), weight.shape[1]), bias.new_zeros(len(new)), bias.new_zeros(len(new))
    for i, photo in enumerate(photos):
        for caption in photo.captions:
            ids = vocabulary.encode(caption)
            if max(ids) < len(old):
                continue
            known = torch.tensor(old.encode(caption))[None, None]
            expected = decoder(features.take(torch.tensor([i * VIEWS])), behind_start(known)).logits[0, 0]
            expected[:, : len(SPECIAL_WORDS)] = -torch.inf
            for index, probabilities in zip(ids, expected.softmax(1), strict=True):
                if index >= len(old):
                    rows[index - len(old)] += probabilities @ weight
                    biases[index - len(old)] += probabilities @ bias
                    seen[index - len(old)] += 1
    decoder.embedding = nn.Embedding.from_pretrained(torch.cat([weight, rows / seen[:, None]]), freeze=True)
    decoder.output_bias = nn.Parameter(torch.cat([bias, biases / seen]), requires_grad=False)
    return vocabulary
