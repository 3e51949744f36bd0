"""LSTM decoders behind one step interface: `start(features) -> state`, `step(words, state) -> Step`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from capcli.attention import SoftAttention
from capcli.encoders import Features
from capcli.vocabulary import PAD, START, UNKNOWN

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
    """A decoder's way through given sentences; as Step, with a time axis after the beams."""

    logits: Tensor
    attention: Tensor | None
    gate: Tensor | None


class SoftAttentionDecoder(nn.Module):
    """LSTM fed with the previous word and a gated context vector at every step (Xu et al. 2015 §3.1.2, §4.2.1).

    The annotation vectors pass through one learned layer first, which brings an encoder's many channels down to the
    embedding's size. The deep output layer shares its last matrix with the word embedding (Press & Wolf 2017).
    """

    def __init__(
        self,
        vocabulary_size: int,
        annotation_size: int,
        hidden_size: int = 512,
        embedding_size: int = 512,
        attention_size: int = 512,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)  # as an output layer wants it
        self.annotation = nn.Linear(annotation_size, embedding_size)
        self.attention = SoftAttention(hidden_size, embedding_size, attention_size)
        self.initial = nn.Sequential(nn.Linear(embedding_size, 2 * hidden_size), nn.Tanh())
        self.gate = nn.Linear(hidden_size, 1)
        self.lstm = nn.LSTMCell(2 * embedding_size, hidden_size)
        self.output_hidden = nn.Linear(hidden_size, embedding_size)
        self.output_context = nn.Linear(embedding_size, embedding_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(vocabulary_size))

    def start(self, features: Features, beams: int = 1) -> State:
        """The state before the first word; h_0 and c_0 from the mean annotation vector (Xu et al. §3.1.2)."""
        annotations = self.dropout(torch.relu(self.annotation(features.annotations)))
        initial = self.initial(annotations.mean(1, keepdim=True)).expand(-1, beams, -1)
        hidden, cell = initial.chunk(2, dim=2)
        return State(hidden, cell, (annotations, self.attention.key(annotations)))

    def step(self, words: Tensor, state: State) -> Step:
        """words: (batch, beams), the previous words (`<start>` first). Special words but `<end>` get no probability."""
        embedded = self.embed(words)
        state, context, attention, gate = self.advance(embedded, state)
        logits = self.output(embedded, state.hidden, context).float()
        logits[..., NEVER_PRINTED] = -torch.inf
        return Step(logits, state, attention, gate)

    def forward(self, features: Features, words: Tensor) -> Reading:
        """Teacher forcing. words: (batch, beams, time), each row beginning with `<start>`.

        The output layer, by far the widest, runs once over all steps; its logits leave `<unk>` possible, since
        training sentences contain it.
        """
        state = self.start(features, words.shape[1])
        embedded = self.embed(words)
        hidden, contexts, attentions, gates = [], [], [], []
        for time in range(words.shape[2]):
            state, context, attention, gate = self.advance(embedded[:, :, time], state)
            hidden.append(state.hidden)
            contexts.append(context)
            attentions.append(attention)
            gates.append(gate)
        logits = self.output(embedded, torch.stack(hidden, 2), torch.stack(contexts, 2))
        return Reading(logits, torch.stack(attentions, 2), torch.stack(gates, 2))

    def embed(self, words: Tensor) -> Tensor:
        """(…,) ids → (…, embedding)."""
        # scaled up because the shared output matrix is initialised small (Vaswani et al. 2017 §3.4)
        return self.dropout(self.embedding(words) * self.embedding.embedding_dim**0.5)

    def advance(self, embedded: Tensor, state: State) -> tuple[State, Tensor, Tensor, Tensor]:
        """The recurrence without the output layer: state, gated context (batch, beams, embedding), weights, gate."""
        annotations, keys = state.memory
        context, weights = self.attention(state.hidden, keys, annotations)
        gate = torch.sigmoid(self.gate(state.hidden))
        context = gate * context
        inputs = torch.cat([embedded, context], 2).flatten(0, 1)
        hidden, cell = self.lstm(inputs, (state.hidden.flatten(0, 1), state.cell.flatten(0, 1)))
        shape = state.hidden.shape
        return State(hidden.view(shape), cell.view(shape), state.memory), context, weights, gate.squeeze(2)

    def output(self, embedded: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """Deep output layer (Xu et al. eq. 7): logits from the previous word, h_t and z_t."""
        deep = torch.tanh(embedded + self.output_hidden(self.dropout(hidden)) + self.output_context(context))
        return nn.functional.linear(self.dropout(deep), self.embedding.weight, self.output_bias)
