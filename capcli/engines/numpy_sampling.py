"""Sampling and diverse beams in numpy; for PyTorch, and sources, see decoding/sampling.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import BeamOptions, DecodingOptions
from capcli.decoding.rules import Rules
from capcli.engines.numpy_search import Advance, Sentence, State, Step, Trace, beam_search, forbid, gather
from capcli.model.vocabulary import END, START, Vocabulary

Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]


def decode(
    advance: Advance,
    state: State,
    count: int,
    options: DecodingOptions,
    vocabulary: Vocabulary,
    generator: np.random.Generator | None,
) -> Hypotheses[np.ndarray]:
    """Return at least count sentences per image, best first, decoded as the options say.

    state: before the first word, one beam per image.
    generator: for draws, else None.

    Raises ValueError if one sentence is to be diverse, and as `Rules.of` does.
    """
    if options.diversity and count < 2:
        raise ValueError("diversity is between candidates: ask for 2 or more")
    if options.sample:
        assert generator is not None
        return sample(advance, state, count, options, vocabulary, generator)
    if options.diversity:
        return diverse_beams(advance, state, count, options, vocabulary, options.diversity)
    return beam_search(advance, state, replace(options, beam=max(options.beam, count)), vocabulary)


def sample(
    advance: Advance,
    state: State,
    count: int,
    options: DecodingOptions,
    vocabulary: Vocabulary,
    generator: np.random.Generator,
) -> Hypotheses[np.ndarray]:
    """Draw count sentences per image word by word, sorted by score."""

    def choose(log_probs: np.ndarray, going: np.ndarray) -> np.ndarray:
        scaled = log_probs / options.temperature
        probabilities = np.exp(scaled - scaled.max(2, keepdims=True))
        if options.top_p >= 1:
            return draw(probabilities, generator)
        probabilities /= probabilities.sum(2, keepdims=True)
        words = np.argsort(-probabilities, axis=2, kind="stable")
        probabilities = np.take_along_axis(probabilities, words, 2)
        # A word stays if those before it do not reach top_p; the first always does.
        probabilities[probabilities.cumsum(2) - probabilities >= options.top_p] = 0
        return np.take_along_axis(words, draw(probabilities, generator)[:, :, None], 2)[:, :, 0]

    return roll_out(advance, state, count, options, vocabulary, choose)


def draw(probabilities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return one index per row, drawn by unnormalised probabilities. probabilities: (…, words)."""
    reached = probabilities.cumsum(-1, dtype=np.float64)
    point = generator.random(reached.shape[:-1])[..., None] * reached[..., -1:]
    return (reached <= point).sum(-1).clip(max=reached.shape[-1] - 1)


def diverse_beams(
    advance: Advance, state: State, count: int, options: BeamOptions, vocabulary: Vocabulary, diversity: float
) -> Hypotheses[np.ndarray]:
    """Search with a group of one beam per sentence; each word costs diversity for every group that has it."""

    def choose(log_probs: np.ndarray, going: np.ndarray) -> np.ndarray:
        chosen = np.zeros(going.shape, np.int64)
        said = np.zeros_like(log_probs[:, 0])
        rows = np.arange(len(going))
        for group in range(going.shape[1]):
            chosen[:, group] = (log_probs[:, group] - diversity * said).argmax(1)
            said[rows, chosen[:, group]] += going[:, group]
        return chosen

    return roll_out(advance, state, count, options, vocabulary, choose)


def roll_out(
    advance: Advance, state: State, count: int, options: BeamOptions, vocabulary: Vocabulary, choose: Choose
) -> Hypotheses[np.ndarray]:
    """Grow count sentences per image side by side, sorted by score.

    choose: takes the next log-probabilities, (batch, count, vocabulary), and which sentences grow, (batch, count);
        returns a word each.
    """
    rules = Rules.of(options, vocabulary)
    batch = len(state.hidden)
    same = np.tile(np.arange(count), (batch, 1))
    words, going = np.full((batch, count), START), np.ones((batch, count), bool)
    lengths = np.zeros((batch, count), np.int64)
    state = state.reorder(np.zeros_like(same))
    trace = Trace(np.zeros((batch, count, 0), np.int64), np.zeros((batch, count, 0), np.float32), None, None)
    for time in range(options.max_length + 1):
        step = advance(words, state)
        state, log_probs = step.state, step.log_probs
        if time == options.max_length:
            words = np.full_like(words, END)
        else:
            allowed = log_probs.copy()
            if time == 0:
                allowed[..., END] = -np.inf  # an empty sentence says nothing
            forbid(allowed, trace.words, rules)
            words = choose(allowed, going)
        words = np.where(going, words, END)
        chosen = np.take_along_axis(log_probs, words[:, :, None], 2)[:, :, 0]
        trace = trace.extended(step, same, words, np.where(going, chosen, 0))
        going &= words != END
        lengths += going
        if not going.any():
            break

    def sentence(image: int, row: int) -> Sentence:
        length = lengths[image, row]
        log_probs = trace.log_probs[image, row, : length + 1]
        return Sentence(
            float(log_probs.sum() / (length + 1) ** options.length_penalty),
            trace.words[image, row, :length],
            log_probs,
            None if trace.attention is None else trace.attention[image, row, :length],
            None if trace.gates is None else trace.gates[image, row, :length],
        )

    finished = [[sentence(image, row) for row in range(count)] for image in range(batch)]
    return gather([sorted(several, key=lambda each: -each.score) for several in finished], count)


def sample_locations(
    advance: Callable[[np.ndarray, State, np.ndarray], Step], generator: np.random.Generator
) -> Advance:
    """Return a step that averages probabilities over sampled locations (Xu et al. 2015 §4.1).

    It replaces the decoder in any search. Each of a beam's samples takes its own way through the image, with common
    words. Attention is the share of samples that looked there.

    advance: takes words and points, (batch, beams × samples), from 0 to 1, which choose locations.
    generator: draws the points.
    """

    def advance_samples(words: np.ndarray, state: State) -> Step:
        each = np.repeat(words, state.samples, 1)
        step = advance(each, state, generator.random(each.shape, np.float32))
        shape = (*words.shape, state.samples)
        assert step.attention is not None
        assert step.gate is not None
        log_probs = step.log_probs.reshape(*shape, -1)
        return Step(
            np.logaddexp.reduce(log_probs, 2) - np.float32(np.log(state.samples)),
            step.state,
            step.attention.reshape(*shape, -1).mean(2),
            step.gate.reshape(shape).mean(2),
        )

    return advance_samples
