"""Beam search in numpy; for PyTorch see decoding/beam_search.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import BeamOptions
from capcli.decoding.rules import Rules
from capcli.model.vocabulary import END, START, Vocabulary


@dataclass
class State:
    """Hold a decoder's memory between words.

    hidden, cell: (batch, beams × samples, hidden).
    memory: arrays (batch, …) shared by an image's beams.
    samples: per beam; see `numpy_sampling.sample_locations`.
    photo: (batch, channels), for agreement, if any; only before the first word.
    vector: (batch, channels), the encoder's global one; only before the first word.
    """

    hidden: np.ndarray
    cell: np.ndarray
    memory: tuple[np.ndarray, ...]
    samples: int = 1
    photo: np.ndarray | None = None
    vector: np.ndarray | None = None

    def reorder(self, beams: np.ndarray) -> State:
        """Return the state of each image's beams picked by index. beams: (batch, new beams)."""
        index = (beams[:, :, None] * self.samples + np.arange(self.samples)).reshape(len(beams), -1)
        rows = np.arange(len(beams))[:, None]
        return State(self.hidden[rows, index], self.cell[rows, index], self.memory, self.samples)

    def repeat(self, samples: int) -> State:
        """Return a state with so many samples of each beam."""
        return State(np.repeat(self.hidden, samples, 1), np.repeat(self.cell, samples, 1), self.memory, samples)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the arrays in the step graph's order."""
        return self.hidden, self.cell, *self.memory

    def keep(self, images: np.ndarray) -> State:
        """Return the state of the images at these positions, (kept,)."""
        memory = tuple(array[images] for array in self.memory)
        return State(self.hidden[images], self.cell[images], memory, self.samples)


@dataclass
class Step:
    """Hold a decoder's output for one word.

    log_probs: (batch, beams, vocabulary) of the next word; the caller may change them.
    attention: (batch, beams, locations), or None.
    gate: (batch, beams), Xu et al.'s β_t, or None.
    """

    log_probs: np.ndarray
    state: State
    attention: np.ndarray | None
    gate: np.ndarray | None


# Goes one word further from the previous words, (batch, beams), `<start>` first, and the state.
Advance = Callable[[np.ndarray, State], Step]


@dataclass
class Trace:
    """Hold live beams' sentences, as in Hypotheses; each array (batch, beams, time, …) or None."""

    words: np.ndarray
    log_probs: np.ndarray
    attention: np.ndarray | None
    gates: np.ndarray | None

    def extended(self, step: Step, parents: np.ndarray, words: np.ndarray, log_probs: np.ndarray) -> Trace:
        """Return sentences extended by a word. parents, words, log_probs: (batch, new beams)."""
        rows = np.arange(len(parents))[:, None]

        def longer(old: np.ndarray | None, new: np.ndarray | None) -> np.ndarray | None:
            if new is None:
                return None
            if old is None:  # the first word
                return new[:, :, None]
            return np.concatenate([old[rows, parents], new[:, :, None]], 2)

        seen = (None if array is None else array[rows, parents] for array in (step.attention, step.gate))
        attention, gates = map(longer, (self.attention, self.gates), seen)
        return Trace(longer(self.words, words), longer(self.log_probs, log_probs), attention, gates)  # type: ignore[arg-type]

    def keep(self, images: np.ndarray) -> Trace:
        """Return the sentences of the images at these positions, (kept,)."""
        return Trace(*(None if array is None else array[images] for array in vars(self).values()))  # type: ignore[arg-type]


@dataclass
class Sentence:
    """Hold a finished sentence: arrays (words, …), log-probabilities with one for `<end>`."""

    score: float
    words: np.ndarray
    log_probs: np.ndarray
    attention: np.ndarray | None
    gates: np.ndarray | None

    @property
    def log_prob(self) -> float:
        return float(self.log_probs.sum())


def beam_search(advance: Advance, state: State, options: BeamOptions, vocabulary: Vocabulary) -> Hypotheses[np.ndarray]:
    """Return the best sentences of each image, as `decoding.beam_search.beam_search` does.

    state: before the first word, one beam per image.
    """
    rules = Rules.of(options, vocabulary)
    beam, batch = options.beam, len(state.hidden)
    finished: list[list[Sentence]] = [[] for _ in range(batch)]
    images = np.arange(batch)  # batch positions of images still being searched
    words, totals = np.full((batch, 1), START), np.zeros((batch, 1), np.float32)
    trace = Trace(np.zeros((batch, 1, 0), np.int64), np.zeros((batch, 1, 0), np.float32), None, None)
    for time in range(options.max_length + 1):
        step = advance(words, state)
        log_probs = step.log_probs
        if time == 0:
            log_probs[..., END] = -np.inf
        if time == options.max_length:
            log_probs[..., :END] = log_probs[..., END + 1 :] = -np.inf
        forbid(log_probs, trace.words, rules)
        # A beam can end only once, so at most `beam` of these are ends, leaving `beam` to go on.
        best, flat = best_of((totals[:, :, None] + log_probs).reshape(len(images), -1), 2 * beam)
        parents, chosen = np.divmod(flat, log_probs.shape[2])
        chosen_log_probs = np.take_along_axis(log_probs.reshape(len(images), -1), flat, 1)
        is_end = chosen == END
        for row, rank in np.argwhere(is_end[:, :beam] & np.isfinite(best[:, :beam])):
            parent, sentences = parents[row, rank], finished[images[row]]
            sentences.append(
                Sentence(
                    best[row, rank] / np.float32((time + 1) ** options.length_penalty),
                    trace.words[row, parent],
                    np.append(trace.log_probs[row, parent], chosen_log_probs[row, rank]),
                    None if trace.attention is None else trace.attention[row, parent],
                    None if trace.gates is None else trace.gates[row, parent],
                )
            )
            sentences.sort(key=lambda sentence: -sentence.score)
            del sentences[beam:]
        # A stable sort moves ends to the back and leaves the others in order of log-probability.
        alive = np.argsort(is_end, axis=1, kind="stable")[:, :beam]
        totals = np.take_along_axis(np.where(is_end, -np.inf, best), alive, 1)
        words, parents, chosen_log_probs = (
            np.take_along_axis(array, alive, 1) for array in (chosen, parents, chosen_log_probs)
        )
        unfinished = [
            len(finished[image]) < beam or likeliest > max(sentence.log_prob for sentence in finished[image])
            for image, likeliest in zip(images, totals[:, 0], strict=True)
        ]
        going = np.flatnonzero(np.array(unfinished) & np.isfinite(totals).any(1))
        if not len(going):
            break
        trace = trace.extended(step, parents, words, chosen_log_probs)
        state = step.state.reorder(parents)
        if len(going) < len(images):
            images, words, totals = images[going], words[going], totals[going]
            trace, state = trace.keep(going), state.keep(going)
    return gather(finished, beam)


def best_of(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's highest values, descending, and their indices; −inf if there are too few.

    values: (rows, n).
    """
    least = max(values.shape[1] - count, 0)
    index = np.argpartition(values, least, axis=1)[:, least:]
    found = np.take_along_axis(values, index, 1)
    order = np.argsort(-found, axis=1, kind="stable")
    found, index = np.take_along_axis(found, order, 1), np.take_along_axis(index, order, 1)
    missing = ((0, 0), (0, count - index.shape[1]))  # few words and a wide beam
    return np.pad(found, missing, constant_values=-np.inf), np.pad(index, missing)


def forbid(log_probs: np.ndarray, history: np.ndarray, rules: Rules) -> None:
    """Set to −inf, in place, each word that must not come next.

    log_probs: (batch, beams, vocabulary), of the next word.
    history: (batch, beams, time) ids so far.
    """
    if rules.banned:
        log_probs[..., list(rules.banned)] = -np.inf
    if rules.no_repeat:
        block_repeats(log_probs, history, rules.no_repeat)
    if rules.no_echo:
        block_echoes(log_probs, history, rules)


def block_echoes(log_probs: np.ndarray, history: np.ndarray, rules: Rules) -> None:
    """Set to −inf, in place, each word that would echo one before with only "and", or "and a", between.

    log_probs, history: see `forbid`.
    """
    time = history.shape[2]
    joining, articles = np.isin(history, rules.joining), np.isin(history, rules.articles)
    echoed = [np.ones(history.shape[:2], bool)]
    if time > 1:
        echoed.append(joining[..., -1])
    if time > 2:
        echoed.append(joining[..., -2] & articles[..., -1])
    for back, where in enumerate(echoed[:time], 1):
        image, beam = np.nonzero(where)
        log_probs[image, beam, history[image, beam, time - back]] = -np.inf


def block_repeats(log_probs: np.ndarray, history: np.ndarray, length: int) -> None:
    """Set to −inf, in place, each word that would repeat a sequence of its beam.

    log_probs, history: see `forbid`.
    length: of a sequence in words, 1 or more.
    """
    time = history.shape[2]
    if time < length:
        return
    sequences = np.lib.stride_tricks.sliding_window_view(history, length, 2)
    last_words = history[:, :, None, time - length + 1 :]
    image, beam, place = np.nonzero((sequences[..., :-1] == last_words).all(3))
    log_probs[image, beam, sequences[image, beam, place, -1]] = -np.inf


def gather(finished: list[list[Sentence]], beam: int) -> Hypotheses[np.ndarray]:
    """Return each image's finished sentences, best first, in arrays for the whole batch."""
    batch, example = len(finished), finished[0][0]
    lengths = np.zeros((batch, beam), np.int64)
    for image, sentences in enumerate(finished):
        lengths[image, : len(sentences)] = [len(sentence.words) for sentence in sentences]
    time = int(lengths.max())
    found: Hypotheses[np.ndarray] = Hypotheses(
        np.zeros((batch, beam, time), np.int64),
        lengths,
        np.zeros((batch, beam, time + 1), np.float32),
        np.full((batch, beam), -np.inf, np.float32),
        None if example.attention is None else np.zeros((batch, beam, time, example.attention.shape[1]), np.float32),
        None if example.gates is None else np.zeros((batch, beam, time), np.float32),
    )
    for image, sentences in enumerate(finished):
        for rank, sentence in enumerate(sentences):
            length = len(sentence.words)
            found.words[image, rank, :length] = sentence.words
            found.word_log_probs[image, rank, : length + 1] = sentence.log_probs
            found.scores[image, rank] = sentence.score
            if found.attention is not None:
                found.attention[image, rank, :length] = sentence.attention
            if found.gates is not None:
                found.gates[image, rank, :length] = sentence.gates
    return found
