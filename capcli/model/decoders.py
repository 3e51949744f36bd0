"""LSTM decoders with one interface: `start(features) -> state`, `step(words, state) -> Step`.

They differ only in where the image enters. Those without attention are named as in Tanti et al. 2017
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
from capcli.model.refiner import Refiner
from capcli.model.vocabulary import NEVER_PRINTED


@dataclass
class State:
    """Hold a decoder's memory between words.

    hidden, cell: (batch, beams, hidden), the LSTM's h_t and c_t.
    memory: tensors (batch, …) of the image, shared by its beams rather than copied or computed for each.
    """

    hidden: Tensor
    cell: Tensor
    memory: tuple[Tensor, ...]

    def reorder(self, beams: Tensor) -> State:
        """Return the state of each image's beams picked by index.

        beams: (batch, new beams) indices, which may repeat.
        """
        index = beams.unsqueeze(2).expand(-1, -1, self.hidden.shape[2])
        return State(self.hidden.gather(1, index), self.cell.gather(1, index), self.memory)

    def keep(self, images: Tensor) -> State:
        """Return the state of some images. images: (kept,) positions in the batch."""
        return State(self.hidden[images], self.cell[images], tuple(tensor[images] for tensor in self.memory))


@dataclass
class Step:
    """Hold a decoder's output for each beam's next word.

    logits: (batch, beams, vocabulary).
    state: after the previous word was read.
    attention: (batch, beams, locations), the weights used, or None.
    gate: (batch, beams), β_t from 0 to 1 (Xu et al. 2015 §4.2.1), or None.
    """

    logits: Tensor
    state: State
    attention: Tensor | None
    gate: Tensor | None


@dataclass
class Reading:
    """Hold a decoder's output on given sentences: as Step, with a time axis after the beams.

    logits: (batch, beams, time, vocabulary).
    attention: (batch, beams, time, locations), the weights used.
    gate: (batch, beams, time), β_t from 0 to 1.
    distribution: (batch, beams, time, locations), the α_t that weights were chosen from; for soft attention, the
        weights.

    The last three are None without attention.
    """

    logits: Tensor
    attention: Tensor | None
    gate: Tensor | None
    distribution: Tensor | None


class Glance(NamedTuple):
    """Hold what attention saw at one step.

    context: (batch, beams, embedding), the gated context vector.
    attention, gate, distribution: as in Reading, without time.
    """

    context: Tensor
    attention: Tensor
    gate: Tensor
    distribution: Tensor


class Decoder(nn.Module):
    """Define what decoders share: word embedding, LSTM cell and deep output layer.

    The output layer's last matrix is the word embedding (Press & Wolf 2017).

    Source: Xu et al. 2015 §3.1.2, and equation 7 for the output layer.
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
        """Initialise the layers.

        vocabulary_size: words, special ones included.
        image_input: number of LSTM inputs that describe the image, or 0.
        hidden_size, embedding_size: channels.
        dropout: probability, 0 to 1.
        feed_previous_word: whether the previous word enters the LSTM and the output layer; else no word's distribution
            depends on earlier choices.
        """
        super().__init__()
        self.feed_previous_word = feed_previous_word
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)  # small, as it is also the output matrix
        self.lstm = nn.LSTMCell(image_input + feed_previous_word * embedding_size, hidden_size)
        self.output_hidden = nn.Linear(hidden_size, embedding_size)
        self.output_context: nn.Linear | None = None  # with attention only
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        """Return a new decoder.

        config: names kind and sizes.
        words: size of the vocabulary, special words included.
        encoder: makes its features.
        """
        raise NotImplementedError

    def start(self, features: Features, beams: int = 1) -> State:
        """Return the state before the first word. beams: per image, all alike, 1 or more."""
        raise NotImplementedError

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """Return the state one word further, and what attention saw, or None: a step without the output layer.

        embedded: (batch, beams, embedding), the previous words.
        state: before that word.
        generator: see `step`.
        """
        raise NotImplementedError

    def step(self, words: Tensor, state: State, generator: Generator | None = None) -> Step:
        """Return the next word's Step; of special words only `<end>` has a probability above 0.

        words: (batch, beams) ids, `<start>` at first.
        state: from `start` or the previous Step.
        generator: draws hard attention's locations; None takes the most probable.
        """
        embedded = self.embed(words)
        state, glance = self.advance(embedded, state, generator)
        logits = self.output(embedded, state.hidden, glance.context if glance else None).float()
        logits[..., NEVER_PRINTED] = -torch.inf
        return Step(logits, state, *((glance.attention, glance.gate) if glance else (None, None)))

    def forward(self, features: Features, words: Tensor) -> Reading:
        """Read given sentences (teacher forcing).

        Unlike in `step`, every special word stays possible, since training sentences contain `<unk>`.

        words: (batch, beams, time) ids, beginning with `<start>`.
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
        # The output layer, by far the widest, runs once for all steps.
        seen = Glance(*(torch.stack(parts, 2) for parts in zip(*glances, strict=True)))
        logits = self.output(embedded, torch.stack(hidden, 2), seen.context)
        return Reading(logits, seen.attention, seen.gate, seen.distribution)

    def embed(self, words: Tensor) -> Tensor:
        """Return embeddings, (…, embedding). words: (…,) ids."""
        # Scaled up because the matrix, shared with the output layer, is initialised small (Vaswani et al. 2017 §3.4).
        return self.dropout(self.embedding(words) * self.embedding.embedding_dim**0.5)

    def recur(self, embedded: Tensor, image: Tensor | None, state: State) -> State:
        """Return the state after one LSTM step.

        embedded: (batch, beams, embedding), the previous words.
        image: (batch, beams, image_input), or None.
        state: before the step.
        """
        inputs = [part for part in (embedded if self.feed_previous_word else None, image) if part is not None]
        flat, hidden, cell = torch.cat(inputs, 2).flatten(0, 1), state.hidden.flatten(0, 1), state.cell.flatten(0, 1)
        if self.lstm.weight_hh.dtype == torch.float32:
            hidden, cell = self.lstm(flat, (hidden, cell))
        else:  # products may be rounded, but the cell's state accumulates over words and needs more digits
            inner = nn.functional.linear(flat, self.lstm.weight_ih, self.lstm.bias_ih)
            gates = (inner.float() + nn.functional.linear(hidden, self.lstm.weight_hh, self.lstm.bias_hh)).chunk(4, 1)
            cell = gates[1].sigmoid() * cell.float() + gates[0].sigmoid() * gates[2].tanh()
            hidden = (gates[3].sigmoid() * cell.tanh()).to(hidden.dtype)
        return State(hidden.view(state.hidden.shape), cell.view(state.cell.shape), state.memory)

    def output(self, embedded: Tensor, hidden: Tensor, context: Tensor | None) -> Tensor:
        """Return the deep output layer's logits, (…, vocabulary).

        embedded: (…, embedding), the previous words.
        hidden: (…, hidden), h_t.
        context: (…, embedding), the gated context vector z_t; None without attention.
        """
        deep = self.output_hidden(self.dropout(hidden))
        if self.feed_previous_word:
            deep = embedded + deep
        if self.output_context is not None:
            deep = deep + self.output_context(context)
        deep = self.dropout(torch.tanh(deep))
        if self.output_bias.dtype == self.embedding.weight.dtype:
            return nn.functional.linear(deep, self.embedding.weight, self.output_bias)
        return nn.functional.linear(deep, self.embedding.weight) + self.output_bias

    def set_dropout(self, probability: float) -> None:
        """Set the probability of dropout, 0 to 1."""
        self.dropout.p = probability

    def in_number_format(self, dtype: torch.dtype) -> Decoder:
        """Return a copy for inference in another number format; LSTM cell and logits are still summed in float32.

        dtype: of the copy's matrices, floating-point.
        """
        decoder = copy.deepcopy(self).to(dtype)
        decoder.output_bias = copy.deepcopy(self.output_bias)
        return decoder

    def blank_state(self, features: Features, beams: int, memory: tuple[Tensor, ...]) -> State:
        """Return a state with h_0 = c_0 = 0.

        beams: per image, 1 or more.
        memory: see State.
        """
        zeros = features.global_vector.new_zeros(len(features.global_vector), beams, self.lstm.hidden_size)
        return State(zeros, zeros, memory)


def project_image(global_size: int, embedding_size: int) -> nn.Sequential:
    """Return layers that bring the global vector to a word embedding's size and scale."""
    # Without normalisation it would have a tenth of that scale.
    return nn.Sequential(nn.Linear(global_size, embedding_size), nn.LayerNorm(embedding_size))


class PreInjectDecoder(Decoder):
    """Decode with the image as the LSTM's first input, before `<start>`, and never again.

    Source: Vinyals et al. 2015, *Show and Tell*, §3.1.
    """

    def __init__(
        self, vocabulary_size: int, global_size: int, hidden_size: int, embedding_size: int, dropout: float
    ) -> None:
        """Initialise the layers; for other parameters see Decoder.

        global_size: channels of the encoder's global vector.
        """
        super().__init__(vocabulary_size, 0, hidden_size, embedding_size, dropout, feed_previous_word=True)
        self.image = project_image(global_size, embedding_size)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        return cls(words, encoder.kind.global_size, config.hidden_size, config.embedding_size, config.dropout)

    def start(self, features: Features, beams: int = 1) -> State:
        """Return the state after reading the image."""
        image = self.dropout(self.image(features.global_vector)).unsqueeze(1)
        state = self.recur(image, None, self.blank_state(features, 1, ()))
        return State(state.hidden.expand(-1, beams, -1), state.cell.expand(-1, beams, -1), ())

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        return self.recur(embedded, None, state), None


class ParInjectDecoder(Decoder):
    """Decode with the image as input of every step, beside the previous word or in its place.

    Source: Tanti et al. 2017.
    """

    def __init__(
        self,
        vocabulary_size: int,
        global_size: int,
        hidden_size: int,
        embedding_size: int,
        dropout: float,
        feed_previous_word: bool,
    ) -> None:
        """Initialise the layers; for other parameters see Decoder.

        global_size: channels of the encoder's global vector.
        """
        super().__init__(vocabulary_size, embedding_size, hidden_size, embedding_size, dropout, feed_previous_word)
        self.image = project_image(global_size, embedding_size)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        sizes = (config.hidden_size, config.embedding_size)
        return cls(words, encoder.kind.global_size, *sizes, config.dropout, config.feed_previous_word)

    def start(self, features: Features, beams: int = 1) -> State:
        """Return a blank state with the projected image as memory."""
        return self.blank_state(features, beams, (self.dropout(self.image(features.global_vector)).unsqueeze(1),))

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """Return the state one word further, read with the image."""
        (image,) = state.memory
        return self.recur(embedded, image.expand(-1, embedded.shape[1], -1), state), None


class AttentionDecoder(Decoder):
    """Decode with attention: each step's input includes a gated context vector, chosen from annotation vectors.

    A learned layer first reduces the encoder's many channels to the embedding's size.

    expected_share: share of a batch's images, 0 to 1, given the expected context while hard attention trains; locations
        are drawn for the others (Xu et al. 2015 §4.1).

    Source: Xu et al. 2015 §3.1.2, and §4.2.1 for the gate.
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
        refine: bool = False,
    ) -> None:
        """Initialise the layers; for other parameters see Decoder.

        annotation_size: channels of annotation vectors.
        attention_size: channels of comparison, see SoftAttention.
        hard: whether attention is hard, not soft.
        refine: whether annotation vectors see each other first, see Refiner.
        """
        super().__init__(vocabulary_size, embedding_size, hidden_size, embedding_size, dropout, feed_previous_word)
        kind = HardAttention if hard else SoftAttention
        self.annotation = nn.Linear(annotation_size, embedding_size)
        self.refiner = Refiner(embedding_size, dropout) if refine else None
        self.attention = kind(hidden_size, embedding_size, attention_size)
        self.initial = nn.Sequential(nn.Linear(embedding_size, 2 * hidden_size), nn.Tanh())
        self.gate = nn.Linear(hidden_size, 1)
        self.output_context = nn.Linear(embedding_size, embedding_size, bias=False)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        return cls(
            words,
            encoder.kind.annotation_size,
            config.hidden_size,
            config.embedding_size,
            config.attention_size,
            config.dropout,
            config.feed_previous_word,
            hard=config.decoder_kind.samples_locations,
            refine=config.refine,
        )

    def set_dropout(self, probability: float) -> None:
        """Set the probability of dropout, lower in the refiner."""
        super().set_dropout(probability)
        if self.refiner:
            self.refiner.set_dropout(probability)

    def start(self, features: Features, beams: int = 1) -> State:
        """Return h_0 and c_0, computed from the mean annotation vector (Xu et al. 2015 §3.1.2)."""
        annotations = self.dropout(torch.relu(self.annotation(features.annotations)))
        if self.refiner:
            annotations = self.refiner(annotations)
        initial = self.initial(annotations.mean(1, keepdim=True)).expand(-1, beams, -1)
        hidden, cell = initial.chunk(2, dim=2)
        expected = torch.zeros(len(annotations), 1, 1, dtype=torch.bool, device=annotations.device)
        if self.training and isinstance(self.attention, HardAttention):
            expected = torch.rand(expected.shape, device=expected.device) < self.expected_share
        return State(hidden, cell, (annotations, self.attention.keys(annotations), expected))

    def advance(
        self, embedded: Tensor, state: State, generator: Generator | None = None
    ) -> tuple[State, Glance | None]:
        """Return the state one word further, read with what attention sees."""
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
    """Return a new decoder of the config's kind.

    config, words, encoder: see `Decoder.build`.
    """
    return DECODER_CLASSES[config.decoder].build(config, words, encoder)
