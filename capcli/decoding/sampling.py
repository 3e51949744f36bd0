"""Other ways to decode than beam search, for more than one sentence: sampling, diverse beams, sampled attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from capcli.decoding.beam_search import BeamOptions, Hypotheses, beam_search, block_repeats
from capcli.model.attention import HardAttention
from capcli.model.decoders import AttentionDecoder, Decoder, State, Step
from capcli.model.encoders import Features
from capcli.model.vocabulary import END, START


@dataclass(frozen=True)
class DecodingOptions(BeamOptions):
    """How to get from features to sentences: by beam search unless sample or diversity is set.

    sample, temperature, top_p: see `sample`. diversity: see `diverse_beams`. attention_samples: see SampledAttention; 0
    takes hard attention's most probable location. seed: of what is drawn; None takes one from PyTorch's own generator.
    What is left out is not what a checkpoint was tuned to: `dataclasses.replace(captioner.options, beam=5)` keeps that.
    Raises ValueError for values out of range.
    """

    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    diversity: float = 0.0
    attention_samples: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("length_penalty", "temperature", "top_p", "diversity"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}, not a finite number")
        if not -10 <= self.length_penalty <= 10:  # the power of a sentence's length has to be a number too
            raise ValueError(f"length_penalty is {self.length_penalty}, not between -10 and 10")
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}, not an integer of 64 bits")
        for name, least in (
            ("beam", 1),
            ("max_length", 1),
            ("no_repeat", 0),
            ("diversity", 0),
            ("attention_samples", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, not {least} or more")
        if self.temperature < 0.01:  # by much less every log-probability would become minus infinity
            raise ValueError(f"temperature is {self.temperature}, not 0.01 or more; beam=1 takes the likeliest words")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, not above 0 and at most 1")
        if self.sample and self.diversity:
            raise ValueError("sample and diversity are two ways to decode: take one")

    @property
    def draws(self) -> bool:
        """Whether anything is left to chance."""
        return self.sample or self.attention_samples > 0


def make_generator(seed: int | None, device: torch.device) -> Generator:
    """Return a generator of its own, so that no other is seeded; seed None draws a seed from PyTorch's."""
    return Generator(device).manual_seed(int(torch.randint(2**63 - 1, ())) if seed is None else seed)


def decode(
    decoder: Decoder, features: Features, count: int, options: DecodingOptions, generator: Generator | None = None
) -> Hypotheses:
    """Sentences for a batch of images, at least count of them each, best first, in the way that the options say.

    generator: of what is drawn; None makes one by options.seed, so that each batch begins with the same numbers. Raises
    ValueError if attention is to be sampled and the decoder's is not hard, or one sentence is to be diverse.
    """
    if options.diversity and count < 2:
        raise ValueError("diversity is between candidates: ask for 2 or more")
    if options.draws:
        generator = generator or make_generator(options.seed, features.annotations.device)
    if options.attention_samples:
        decoder = SampledAttention(decoder, options.attention_samples, generator)  # type: ignore[assignment, arg-type]
    if options.sample:
        return sample(decoder, features, count, options, options.temperature, options.top_p, generator)
    if options.diversity:
        return diverse_beams(decoder, features, count, options, options.diversity)
    return beam_search(decoder, features, replace(options, beam=max(options.beam, count)))


@torch.inference_mode()
def sample(
    decoder: Decoder,
    features: Features,
    count: int,
    options: BeamOptions,
    temperature: float = 1.0,
    top_p: float = 1.0,
    generator: Generator | None = None,
) -> Hypotheses:
    """Draw count sentences per image word by word, sorted by score.

    temperature: divides the logits; below 1 the probable words become more so. top_p: only the most probable words
    that together reach this probability are drawn from (nucleus sampling, Holtzman et al. 2020 §3.1). The
    log-probabilities are the model's own, at temperature 1 and of all words. generator: what is drawn from; None is
    PyTorch's own.
    """

    def choose(log_probs: Tensor, going: Tensor) -> Tensor:
        probabilities = (log_probs / temperature).softmax(2)
        if top_p >= 1:
            return draw(probabilities, generator)
        probabilities, words = probabilities.sort(2, descending=True)
        # A word stays if those before it do not reach top_p; the first always does.
        probabilities[probabilities.cumsum(2) - probabilities >= top_p] = 0
        return words.gather(2, draw(probabilities, generator).unsqueeze(2)).squeeze(2)

    return roll_out(decoder, features, count, options, choose)


def draw(probabilities: Tensor, generator: Generator | None = None) -> Tensor:
    """One index per row, (…,), from probabilities (…, words), which need not sum to 1.

    By the inverse of the distribution function: on a CPU `multinomial` takes several times as long, since it draws a
    number per word instead of one per row.
    """
    reached = probabilities.cumsum(-1)
    last = reached[..., -1:]
    point = torch.rand(last.shape, generator=generator, dtype=last.dtype, device=last.device) * last
    return torch.searchsorted(reached, point, right=True).squeeze(-1).clamp_max(probabilities.shape[-1] - 1)


@torch.inference_mode()
def diverse_beams(
    decoder: Decoder, features: Features, count: int, options: BeamOptions, diversity: float
) -> Hypotheses:
    """Diverse beam search (Vijayakumar et al. 2018 §4) with as many groups as sentences, sorted by score.

    At each step the groups choose one after the other, and each word costs diversity times how often it was chosen
    before by others at this step (their Hamming diversity). Groups whose sentence has ended choose nothing.
    """

    def choose(log_probs: Tensor, going: Tensor) -> Tensor:
        chosen: list[Tensor] = []
        taken = torch.zeros_like(log_probs[:, 0])
        for group in range(log_probs.shape[1]):
            chosen.append((log_probs[:, group] - diversity * taken).argmax(1))
            taken += F.one_hot(chosen[-1], taken.shape[1]) * going[:, group].unsqueeze(1)
        return torch.stack(chosen, 1)

    return roll_out(decoder, features, count, options, choose)


def roll_out(
    decoder: Decoder, features: Features, count: int, options: BeamOptions, choose: Callable[[Tensor, Tensor], Tensor]
) -> Hypotheses:
    """Let count sentences per image grow side by side; choose takes the log-probabilities (batch, count, vocabulary) of
    the next words, and which sentences still grow, and returns a word for each, (batch, count)."""
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
                allowed[..., END] = -torch.inf  # an empty sentence says nothing
            elif options.no_repeat:
                block_repeats(allowed, torch.stack([taken for taken, *_ in steps], 2), options.no_repeat)
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
    """samples LSTM states per beam, which have looked at different places; as State otherwise."""

    inner: State
    samples: int

    def reorder(self, beams: Tensor) -> SampledState:
        """Each image's beams picked by index, with all their samples."""
        index = beams.unsqueeze(2) * self.samples + torch.arange(self.samples, device=beams.device)
        return SampledState(self.inner.reorder(index.flatten(1)), self.samples)

    def keep(self, images: Tensor) -> SampledState:
        """The images at these positions of the batch."""
        return SampledState(self.inner.keep(images), self.samples)


class SampledAttention:
    """A hard-attention decoder that averages the next word's probability over sampled locations (Xu et al. 2015 §4.1).

    Stands in for the decoder in any search. Each sample goes its own way through the image, the words are common.
    """

    def __init__(self, decoder: Decoder, samples: int, generator: Generator) -> None:
        """generator: what the locations are drawn from. Raises ValueError for a decoder without hard attention."""
        if not isinstance(decoder, AttentionDecoder) or not isinstance(decoder.attention, HardAttention):
            raise ValueError("only hard attention samples locations; this checkpoint has none")
        self.decoder, self.samples, self.generator = decoder, samples, generator

    def start(self, features: Features, beams: int = 1) -> SampledState:
        """As Decoder.start."""
        return SampledState(self.decoder.start(features, beams * self.samples), self.samples)

    def step(self, words: Tensor, state: SampledState) -> Step:
        """As Decoder.step; logits are log-probabilities, attention the share of samples that looked there."""
        step = self.decoder.step(words.repeat_interleave(self.samples, 1), state.inner, self.generator)
        shape = (words.shape[1], self.samples)
        log_probs = step.logits.log_softmax(2).unflatten(1, shape).logsumexp(2) - torch.tensor(self.samples).log()
        assert step.attention is not None
        assert step.gate is not None
        looked, gate = step.attention.unflatten(1, shape).mean(2), step.gate.unflatten(1, shape).mean(2)
        return Step(log_probs, SampledState(step.state, self.samples), looked, gate)  # type: ignore[arg-type]
