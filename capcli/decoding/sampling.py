"""Decoding other than plain beam search: sampling, diverse beam search, sampled attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from capcli.decoding.beam_search import beam_search, forbid
from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import BeamOptions, DecodingOptions
from capcli.decoding.rules import Rules
from capcli.model.attention import HardAttention
from capcli.model.decoders import AttentionDecoder, Decoder, State, Step
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, START, Vocabulary


def make_generator(seed: int | None, device: torch.device) -> Generator:
    """Return a new generator, leaving PyTorch's global one alone.

    seed: None draws one from the global generator.
    device: for random numbers.
    """
    return Generator(device).manual_seed(int(torch.randint(2**63 - 1, ())) if seed is None else seed)


def decode(
    decoder: Decoder,
    features: Features,
    count: int,
    options: DecodingOptions,
    vocabulary: Vocabulary,
    generator: Generator | None = None,
) -> Hypotheses[Tensor]:
    """Return at least count sentences per image, best first, decoded as the options say.

    decoder: in evaluation mode.
    features: on the decoder's device.
    count: 1 or more.
    generator: draws random numbers; None makes one from options.seed, so that every batch draws the same.

    Raises ValueError for attention_samples without hard attention, for diversity with a count of 1, and as `Rules.of`
    does.
    """
    if options.diversity and count < 2:
        raise ValueError("diversity needs 2 candidates or more")
    if options.draws:
        generator = generator or make_generator(options.seed, features.annotations.device)
    if options.attention_samples:
        decoder = SampledAttention(decoder, options.attention_samples, generator)  # type: ignore[assignment, arg-type]
    if options.sample:
        return sample(decoder, features, count, options, vocabulary, options.temperature, options.top_p, generator)
    if options.diversity:
        return diverse_beams(decoder, features, count, options, vocabulary, options.diversity)
    return beam_search(decoder, features, replace(options, beam=max(options.beam, count)), vocabulary)


@torch.inference_mode()
def sample(
    decoder: Decoder,
    features: Features,
    count: int,
    options: BeamOptions,
    vocabulary: Vocabulary,
    temperature: float = 1.0,
    top_p: float = 1.0,
    generator: Generator | None = None,
) -> Hypotheses[Tensor]:
    """Return count sentences per image, drawn word by word and sorted by score.

    Log-probabilities are the model's own: at temperature 1 and over all words.

    decoder, features, count: see `decode`.
    options: all but beam are used.
    temperature: divides the logits, above 0; below 1 it favours probable words, above 1 the others.
    top_p: draw only from the most probable words that together reach this probability, above 0; 1 allows all.
    generator: draws random numbers; None uses PyTorch's global one.

    Source: Holtzman et al. 2020 §3.1, for nucleus sampling (top_p).
    """

    def choose(log_probs: Tensor, going: Tensor) -> Tensor:
        probabilities = (log_probs / temperature).softmax(2)
        if top_p >= 1:
            return draw(probabilities, generator)
        probabilities, words = probabilities.sort(2, descending=True)
        # A word stays if the more probable ones together fall short of top_p; so the first always does.
        probabilities[probabilities.cumsum(2) - probabilities >= top_p] = 0
        return words.gather(2, draw(probabilities, generator).unsqueeze(2)).squeeze(2)

    return roll_out(decoder, features, count, options, vocabulary, choose)


def draw(probabilities: Tensor, generator: Generator | None = None) -> Tensor:
    """Return one random index per row, (…,).

    probabilities: (…, words), 0 or more; rows need not sum to 1.
    generator: draws random numbers; None uses PyTorch's global one.
    """
    # Inverts the cumulative distribution: on a CPU `torch.multinomial` takes several times as long, as it draws a
    # number per word instead of per row.
    reached = probabilities.cumsum(-1)
    last = reached[..., -1:]
    point = torch.rand(last.shape, generator=generator, dtype=last.dtype, device=last.device) * last
    return torch.searchsorted(reached, point, right=True).squeeze(-1).clamp_max(probabilities.shape[-1] - 1)


@torch.inference_mode()
def diverse_beams(
    decoder: Decoder, features: Features, count: int, options: BeamOptions, vocabulary: Vocabulary, diversity: float
) -> Hypotheses[Tensor]:
    """Return count sentences per image by diverse beam search with one beam per group, sorted by score.

    At each step groups choose in turn. A word's log-probability is lowered by diversity for each earlier group that
    chose it at this step. Groups with ended sentences no longer choose.

    decoder, features, count: see `decode`.
    options: all but beam are used.
    diversity: penalty in nats, 0 or more.

    Source: Vijayakumar et al. 2018 §4, with Hamming diversity.
    """

    def choose(log_probs: Tensor, going: Tensor) -> Tensor:
        chosen: list[Tensor] = []
        said = torch.zeros_like(log_probs[:, 0])
        for group in range(log_probs.shape[1]):
            chosen.append((log_probs[:, group] - diversity * said).argmax(1))
            said += F.one_hot(chosen[-1], said.shape[1]) * going[:, group].unsqueeze(1)
        return torch.stack(chosen, 1)

    return roll_out(decoder, features, count, options, vocabulary, choose)


def roll_out(
    decoder: Decoder,
    features: Features,
    count: int,
    options: BeamOptions,
    vocabulary: Vocabulary,
    choose: Callable[[Tensor, Tensor], Tensor],
) -> Hypotheses[Tensor]:
    """Return count sentences per image, grown side by side word by word, sorted by score.

    decoder, features, count: see `decode`.
    options: all but beam are used.
    choose: takes the next log-probabilities, (batch, count, vocabulary), and which sentences are unfinished, (batch,
        count) bool; returns the chosen ids, (batch, count).
    """
    rules = Rules.of(options, vocabulary)
    state = decoder.start(features, count)
    batch = features.annotations.shape[0]
    words = torch.full((batch, count), START, device=features.annotations.device)
    going = torch.ones_like(words, dtype=torch.bool)
    steps: list[tuple[Tensor, Tensor, Tensor | None, Tensor | None]] = []
    for time in range(options.max_length + 1):
        step = decoder.step(words, state)
        state = step.state
        log_probs = step.logits.log_softmax(2)
        if time == options.max_length:
            words = torch.full_like(words, END)
        else:
            allowed = log_probs.clone()
            if time == 0:
                allowed[..., END] = -torch.inf  # a sentence has at least one word
            history = torch.stack([taken for taken, *_ in steps], 2) if steps else words.new_zeros(batch, count, 0)
            forbid(allowed, history, rules)
            words = choose(allowed, going)
        chosen = log_probs.gather(2, words.unsqueeze(2)).squeeze(2)
        steps.append((words.masked_fill(~going, END), chosen.masked_fill(~going, 0), step.attention, step.gate))
        going = going & (words != END)
        if not going.any():
            break
    ids, word_log_probs = (torch.stack([s[i] for s in steps], 2) for i in (0, 1))  # type: ignore[misc]
    lengths = (ids != END).sum(2)
    scores = word_log_probs.sum(2) / (lengths + 1) ** options.length_penalty
    scores, order = scores.sort(1, descending=True)

    rows = torch.arange(batch, device=order.device).unsqueeze(1)

    def sorted_steps(index: int) -> Tensor | None:
        if steps[0][index] is None:
            return None
        stacked = torch.stack([s[index] for s in steps[:-1]], 2)  # type: ignore[misc]
        return stacked[rows, order]

    ids = ids[rows, order][:, :, :-1]
    return Hypotheses(
        ids.masked_fill(ids == END, 0),
        lengths[rows, order],
        word_log_probs[rows, order],
        scores,
        sorted_steps(2),
        sorted_steps(3),
    )


@dataclass
class SampledState:
    """Hold an LSTM state per attention sample of each beam; otherwise like State.

    inner: the states, (batch, beams × samples, hidden), a beam's samples side by side.
    samples: per beam, 1 or more.
    """

    inner: State
    samples: int

    def reorder(self, beams: Tensor) -> SampledState:
        """Return the state of each image's beams picked by index, with all their samples.

        beams: (batch, new beams) indices.
        """
        index = beams.unsqueeze(2) * self.samples + torch.arange(self.samples, device=beams.device)
        return SampledState(self.inner.reorder(index.flatten(1)), self.samples)

    def keep(self, images: Tensor) -> SampledState:
        """Return the state of some images. images: (kept,) positions in the batch."""
        return SampledState(self.inner.keep(images), self.samples)


class SampledAttention:
    """Average a hard-attention decoder's next-word probabilities over sampled locations.

    It replaces a decoder in any search. A beam's samples share its words, but each has its own sequence of locations
    and LSTM state.

    Source: Xu et al. 2015 §4.1.
    """

    def __init__(self, decoder: Decoder, samples: int, generator: Generator) -> None:
        """Wrap a decoder.

        decoder: an AttentionDecoder with hard attention, in evaluation mode.
        samples: locations drawn per beam and word, 1 or more.
        generator: draws locations.

        Raises ValueError for a decoder without hard attention.
        """
        if not isinstance(decoder, AttentionDecoder) or not isinstance(decoder.attention, HardAttention):
            raise ValueError("only hard attention samples locations; this checkpoint has none")
        self.decoder, self.samples, self.generator = decoder, samples, generator

    def start(self, features: Features, beams: int = 1) -> SampledState:
        """Return the state before the first word."""
        return SampledState(self.decoder.start(features, beams * self.samples), self.samples)

    def step(self, words: Tensor, state: SampledState) -> Step:
        """Return the next word's Step; see `Decoder.step`.

        Its logits are log-probabilities, and its attention is the share of samples that looked at each location.
        """
        step = self.decoder.step(words.repeat_interleave(self.samples, 1), state.inner, self.generator)
        shape = (words.shape[1], self.samples)
        log_probs = step.logits.log_softmax(2).unflatten(1, shape).logsumexp(2) - torch.tensor(self.samples).log()
        assert step.attention is not None
        assert step.gate is not None
        looked, gate = step.attention.unflatten(1, shape).mean(2), step.gate.unflatten(1, shape).mean(2)
        return Step(log_probs, SampledState(step.state, self.samples), looked, gate)  # type: ignore[arg-type]
