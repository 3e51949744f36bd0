"""LSTM decoders behind one step interface: `start(features) -> state`, `step(words, state) -> Step`.

Where the image enters is all that tells them apart. The names of those without attention follow Tanti et al. 2017
(arXiv:1708.02043).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from capcli.model.attention import HardAttention, SoftAttention
from capcli.model.config import ModelConfig
from capcli.model.encoders import Encoder, Features
from capcli.model.vocabulary import PAD, START, UNKNOWN

NEVER_PRINTED = [PAD, START, UNKNOWN]


@dataclass
class State:
    """What a decoder remembers between two words.

    hidden, cell: (batch, beams, hidden). memory: tensors (batch, …) that belong to the image and are shared by its
    beams, so that they are neither copied nor computed per beam.
    """

    hidden: Tensor
    cell: Tensor
    memory: tuple[Tensor, ...]

    def reorder(self, beams: Tensor) -> State:
        """Each image's beams picked by index; beams: (batch, new beams)."""
        index = beams.unsqueeze(2).expand(-1, -1, self.hidden.shape[2])
        return State(self.hidden.gather(1, index), self.cell.gather(1, index), self.memory)

    def keep(self, images: Tensor) -> State:
        """The images at these positions of the batch, (kept,)."""
        return State(self.hidden[images], self.cell[images], tuple(tensor[images] for tensor in self.memory))


@dataclass
class Step:
    """One word further.

    logits: (batch, beams, vocabulary); attention: (batch, beams, locations) or None; gate: (batch, beams), Xu et
    al.'s β_t, or None.
    """

    logits: Tensor
    state: State
    attention: Tensor | None
    gate: Tensor | None


@dataclass
class Reading:
    """A decoder's way through given sentences; as Step, with a time axis after the beams.

    attention: the weights that were used; distribution: the α_t that they were chosen from, the same for soft
    attention. Both (batch, beams, time, locations), or None.
    """

    logits: Tensor
    attention: Tensor | None
    gate: Tensor | None
    distribution: Tensor | None


class Glance(NamedTuple):
    """What the recurrence saw: gated context (batch, beams, embedding), and the step's part of a Reading."""

    context: Tensor
    attention: Tensor
    gate: Tensor
    distribution: Tensor


class Decoder(nn.Module):
    """What all decoders share: word embedding, LSTM cell and a deep output layer (Xu et al. 2015 §3.1.2, eq. 7).

    The output layer shares its last matrix with the word embedding (Press & Wolf 2017). feed_previous_word: whether the
    previous word is an input of the LSTM and of the output layer; without it (as the lecture notes write method 2) no
    step's distribution depends on the words chosen so far.
    """

    def __init__(
        self,
        vocabulary_size: int,
        image_input: int,
        hidden_size: int,
        embedding_size: int,
        dropout: float,
        feed_previous_word: bool,
    ) -> None:
        """image_input: how many of the LSTM's inputs describe the image."""
        super().__init__()
        self.feed_previous_word = feed_previous_word
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)  # as an output layer wants it
        self.lstm = nn.LSTMCell(image_input + feed_previous_word * embedding_size, hidden_size)
        self.output_hidden = nn.Linear(hidden_size, embedding_size)
        self.output_context: nn.Linear | None = None  # with attention only
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        """Make a fresh decoder for an encoder's features. words: size of the vocabulary."""
        raise NotImplementedError

    def start(self, features: Features, beams: int = 1) -> State:
        """The state before the first word."""
        raise NotImplementedError

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """The recurrence without the output layer; embedded: (batch, beams, embedding). generator: see `step`."""
        raise NotImplementedError

    def step(self, words: Tensor, state: State, generator: Generator | None = None) -> Step:
        """words: (batch, beams), the previous words (`<start>` first). Special words but `<end>` get no probability.

        generator: hard attention draws its locations from it; without, it takes the most probable ones.
        """
        embedded = self.embed(words)
        state, glance = self.advance(embedded, state, generator)
        logits = self.output(embedded, state.hidden, glance.context if glance else None).float()
        logits[..., NEVER_PRINTED] = -torch.inf
        return Step(logits, state, *((glance.attention, glance.gate) if glance else (None, None)))

    def forward(self, features: Features, words: Tensor) -> Reading:
        """Teacher forcing. words: (batch, beams, time), each row beginning with `<start>`.

        The output layer, by far the widest, runs once over all steps; its logits leave `<unk>` possible, since
        training sentences contain it.
        """
        state = self.start(features, words.shape[1])
        embedded = self.embed(words)
        hidden, glances = [], []
        for time in range(words.shape[2]):
            state, glance = self.advance(embedded[:, :, time], state)
            hidden.append(state.hidden)
            if glance:
                glances.append(glance)
        if not glances:
            return Reading(self.output(embedded, torch.stack(hidden, 2), None), None, None, None)
        seen = Glance(*(torch.stack(parts, 2) for parts in zip(*glances, strict=True)))
        logits = self.output(embedded, torch.stack(hidden, 2), seen.context)
        return Reading(logits, seen.attention, seen.gate, seen.distribution)

    def embed(self, words: Tensor) -> Tensor:
        """(…,) ids → (…, embedding)."""
        # scaled up because the shared output matrix is initialised small (Vaswani et al. 2017 §3.4)
        return self.dropout(self.embedding(words) * self.embedding.embedding_dim**0.5)

    def recur(self, embedded: Tensor, image: Tensor | None, state: State) -> State:
        """One step of the LSTM; image: (batch, beams, image_input) or None."""
        inputs = [part for part in (embedded if self.feed_previous_word else None, image) if part is not None]
        flat, hidden, cell = torch.cat(inputs, 2).flatten(0, 1), state.hidden.flatten(0, 1), state.cell.flatten(0, 1)
        if self.lstm.weight_hh.dtype == torch.float32:
            hidden, cell = self.lstm(flat, (hidden, cell))
        else:  # what is added up from word to word needs more digits than the products
            inner = nn.functional.linear(flat, self.lstm.weight_ih, self.lstm.bias_ih)
            gates = (inner.float() + nn.functional.linear(hidden, self.lstm.weight_hh, self.lstm.bias_hh)).chunk(4, 1)
            cell = gates[1].sigmoid() * cell.float() + gates[0].sigmoid() * gates[2].tanh()
            hidden = (gates[3].sigmoid() * cell.tanh()).to(hidden.dtype)
        return State(hidden.view(state.hidden.shape), cell.view(state.cell.shape), state.memory)

    def output(self, embedded: Tensor, hidden: Tensor, context: Tensor | None) -> Tensor:
        """Deep output layer: logits from the previous word, h_t and z_t."""
        deep = self.output_hidden(self.dropout(hidden))
        if self.feed_previous_word:
            deep = embedded + deep
        if self.output_context is not None:
            deep = deep + self.output_context(context)
        deep = self.dropout(torch.tanh(deep))
        if self.output_bias.dtype == self.embedding.weight.dtype:
            return nn.functional.linear(deep, self.embedding.weight, self.output_bias)
        return nn.functional.linear(deep, self.embedding.weight) + self.output_bias

    def in_number_format(self, dtype: torch.dtype) -> Decoder:
        """A copy for inference whose matrices are of this type; LSTM cell and logits are still added up in float32."""
        decoder = copy.deepcopy(self).to(dtype)
        decoder.output_bias = copy.deepcopy(self.output_bias)
        return decoder

    def blank_state(self, features: Features, beams: int, memory: tuple[Tensor, ...]) -> State:
        """h_0 = c_0 = 0."""
        zeros = features.global_vector.new_zeros(len(features.global_vector), beams, self.lstm.hidden_size)
        return State(zeros, zeros, memory)


def project_image(global_size: int, embedding_size: int) -> nn.Sequential:
    """The global vector brought to the size of a word's embedding, and to its scale: it would be a tenth of it."""
    return nn.Sequential(nn.Linear(global_size, embedding_size), nn.LayerNorm(embedding_size))


class PreInjectDecoder(Decoder):
    """The image is the input of the first LSTM cell only, before `<start>` (Vinyals et al. 2015, *Show and Tell*)."""

    def __init__(
        self, vocabulary_size: int, global_size: int, hidden_size: int, embedding_size: int, dropout: float
    ) -> None:
        super().__init__(vocabulary_size, 0, hidden_size, embedding_size, dropout, feed_previous_word=True)
        self.image = project_image(global_size, embedding_size)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        """As Decoder.build."""
        return cls(words, encoder.kind.global_size, config.hidden_size, config.embedding_size, config.dropout)

    def start(self, features: Features, beams: int = 1) -> State:
        """The state after the cell that was fed the image."""
        image = self.dropout(self.image(features.global_vector)).unsqueeze(1)
        state = self.recur(image, None, self.blank_state(features, 1, ()))
        return State(state.hidden.expand(-1, beams, -1), state.cell.expand(-1, beams, -1), ())

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """From the previous word alone; the image travels in the hidden state."""
        return self.recur(embedded, None, state), None


class ParInjectDecoder(Decoder):
    """The image is an input of every LSTM cell; with feed_previous_word beside the word, else in its place."""

    def __init__(
        self,
        vocabulary_size: int,
        global_size: int,
        hidden_size: int,
        embedding_size: int,
        dropout: float,
        feed_previous_word: bool,
    ) -> None:
        super().__init__(vocabulary_size, embedding_size, hidden_size, embedding_size, dropout, feed_previous_word)
        self.image = project_image(global_size, embedding_size)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        """As Decoder.build."""
        sizes = (config.hidden_size, config.embedding_size)
        return cls(words, encoder.kind.global_size, *sizes, config.dropout, config.feed_previous_word)

    def start(self, features: Features, beams: int = 1) -> State:
        """A blank state; the projected image is kept beside it."""
        return self.blank_state(features, beams, (self.dropout(self.image(features.global_vector)).unsqueeze(1),))

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """From the image, and the previous word where it is fed."""
        (image,) = state.memory
        return self.recur(embedded, image.expand(-1, embedded.shape[1], -1), state), None


class AttentionDecoder(Decoder):
    """A gated context vector, chosen by attention, is an input of every LSTM cell (Xu et al. 2015 §3.1.2, §4.2.1).

    The annotation vectors pass through one learned layer first, which brings an encoder's many channels down to the
    embedding's size. With hard attention, training samples the locations but for a random share of the images, which
    see the expected context (Xu et al. §4.1: half of them).
    """

    expected_share = 0.5

    def __init__(
        self,
        vocabulary_size: int,
        annotation_size: int,
        hidden_size: int = 512,
        embedding_size: int = 512,
        attention_size: int = 512,
        dropout: float = 0.5,
        feed_previous_word: bool = True,
        hard: bool = False,
    ) -> None:
        super().__init__(vocabulary_size, embedding_size, hidden_size, embedding_size, dropout, feed_previous_word)
        kind = HardAttention if hard else SoftAttention
        self.annotation = nn.Linear(annotation_size, embedding_size)
        self.attention = kind(hidden_size, embedding_size, attention_size)
        self.initial = nn.Sequential(nn.Linear(embedding_size, 2 * hidden_size), nn.Tanh())
        self.gate = nn.Linear(hidden_size, 1)
        self.output_context = nn.Linear(embedding_size, embedding_size, bias=False)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        """As Decoder.build."""
        return cls(
            words,
            encoder.kind.annotation_size,
            config.hidden_size,
            config.embedding_size,
            config.attention_size,
            config.dropout,
            config.feed_previous_word,
            hard=config.decoder_kind.samples_locations,
        )

    def start(self, features: Features, beams: int = 1) -> State:
        """h_0 and c_0 from the mean annotation vector (Xu et al. §3.1.2)."""
        annotations = self.dropout(torch.relu(self.annotation(features.annotations)))
        initial = self.initial(annotations.mean(1, keepdim=True)).expand(-1, beams, -1)
        hidden, cell = initial.chunk(2, dim=2)
        expected = torch.zeros(len(annotations), 1, 1, dtype=torch.bool, device=annotations.device)
        if self.training and isinstance(self.attention, HardAttention):
            expected = torch.rand(expected.shape, device=expected.device) < self.expected_share
        return State(hidden, cell, (annotations, self.attention.keys(annotations), expected))

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """From the previous word and what attention shows of the image."""
        annotations, keys, expected = state.memory
        distribution = self.attention.distribution(state.hidden, keys)
        weights = self.attention.choose(distribution, generator)
        if self.training and weights is not distribution:
            weights = torch.where(expected, distribution, weights)
        gate = torch.sigmoid(self.gate(state.hidden))
        context = gate * (weights.to(annotations.dtype) @ annotations)
        return self.recur(embedded, context, state), Glance(context, weights, gate.squeeze(2), distribution)


# The class of each name in `config.DECODERS`.
DECODER_CLASSES: dict[str, type[Decoder]] = {
    "pre-inject": PreInjectDecoder,
    "par-inject": ParInjectDecoder,
    "soft": AttentionDecoder,
    "hard": AttentionDecoder,
}


def make_decoder(config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
    """Make the decoder that a config names, freshly initialised. words: size of the vocabulary."""
    return DECODER_CLASSES[config.decoder].build(config, words, encoder)
