"""A taught decoder beside the one it began as: each photo is captioned by one of them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from capcli.model.config import ModelConfig
from capcli.model.decoders import Decoder, Reading, State, Step, make_decoder
from capcli.model.encoders import Encoder, Features
from capcli.model.vocabulary import UNKNOWN


class TaughtDecoder(Decoder):
    """Decode photos like the taught ones with what was learnt, all others as before.

    So nothing is forgotten about photos unlike the taught ones.

    before: the old decoder.
    taught: the new one, whose further words come last.
    near: says, by its sign on the global vector, whether a photo is like the taught ones.
    """

    def __init__(self, before: Decoder, taught: Decoder, near: nn.Linear) -> None:
        """Combine two decoders of one kind and size; see the class."""
        nn.Module.__init__(self)
        self.before, self.taught, self.near = before, taught, near
        self.words_before = len(before.output_bias)

    @classmethod
    def build(cls, config: ModelConfig, words: int, encoder: Encoder) -> Decoder:
        """Return new decoders; the config has the old vocabulary's size."""
        assert config.words_before is not None
        before, taught = (make_decoder(config, count, encoder) for count in (config.words_before, words))
        return cls(before, taught, nn.Linear(encoder.kind.global_size, 1))

    def start(self, features: Features, beams: int = 1) -> State:
        """Return both states side by side, and which counts for each photo."""
        near = self.is_near(features)
        before, taught = (decoder.start(features, beams) for decoder in (self.before, self.taught))
        return join(near, before, taught)

    def step(self, words: Tensor, state: State, generator: Generator | None = None) -> Step:
        """Return the Step of the photo's decoder."""
        near, *states = split(state)
        before = self.before.step(self.known(words), states[0], generator)
        taught = self.taught.step(words, states[1], generator)
        never = before.logits.new_full((1,), -torch.inf)
        logits = torch.where(near, taught.logits, self.widened(before.logits, taught.logits, never))
        attention = choose(near, taught.attention, before.attention)
        gate = choose(near.squeeze(2), taught.gate, before.gate)
        return Step(logits, join(near, before.state, taught.state), attention, gate)

    def forward(self, features: Features, words: Tensor) -> Reading:
        """Read sentences with the photo's decoder; to the old one, new words are `<unk>`."""
        near = self.is_near(features)
        before, taught = self.before(features, self.known(words)), self.taught(features, words)
        wide, unknown = near.unsqueeze(3), before.logits[..., UNKNOWN, None]
        return Reading(
            torch.where(wide, taught.logits, self.widened(before.logits, taught.logits, unknown)),
            choose(wide, taught.attention, before.attention),
            choose(near, taught.gate, before.gate),
            choose(wide, taught.distribution, before.distribution),
        )

    def in_number_format(self, dtype: torch.dtype) -> Decoder:
        return TaughtDecoder(self.before.in_number_format(dtype), self.taught.in_number_format(dtype), self.near)

    def is_near(self, features: Features) -> Tensor:
        """Return which photos the taught decoder captions, (batch, 1, 1) bool."""
        return self.near(features.global_vector.to(self.near.weight.dtype)).unsqueeze(2) > 0

    def known(self, words: Tensor) -> Tensor:
        """Replace ids that the old decoder did not know by `<unk>`."""
        return words.where(words < self.words_before, UNKNOWN)

    def widened(self, logits: Tensor, like: Tensor, value: Tensor) -> Tensor:
        """Extend the old decoder's logits to all words. value: of new words, (…, 1)."""
        more = like.shape[-1] - logits.shape[-1]
        return torch.cat([logits, value.expand(*logits.shape[:-1], more)], -1)


def join(near: Tensor, before: State, taught: State) -> State:
    """Return two states as one. near: (batch, 1, 1) bool, where the taught one counts."""
    hidden, cell = (torch.cat(pair, 2) for pair in ((before.hidden, taught.hidden), (before.cell, taught.cell)))
    return State(hidden, cell, (near, *before.memory, *taught.memory))


def split(state: State) -> tuple[Tensor, State, State]:
    """Undo `join`."""
    near, *memory = state.memory
    half = len(memory) // 2
    memories = (tuple(memory[:half]), tuple(memory[half:]))
    parts = zip(state.hidden.chunk(2, 2), state.cell.chunk(2, 2), memories, strict=True)
    before, taught = (State(hidden, cell, shared) for hidden, cell, shared in parts)
    return near, before, taught


def choose(near: Tensor, taught: Tensor | None, before: Tensor | None) -> Tensor | None:
    """Return each photo's values from its own decoder; None without attention."""
    return None if taught is None or before is None else torch.where(near, taught, before)
