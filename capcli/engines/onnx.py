"""ONNX Runtime: on CPUs, in float32, without PyTorch.

Graphs are made here from a checked config.json, weights read from checked safetensors: no foreign graph is ever run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from capcli.checkpoints.facts import Facts
from capcli.checkpoints.store import Checkpoint, read_checkpoint
from capcli.decoding.hypotheses import Hypotheses
from capcli.decoding.options import DecodingOptions
from capcli.engines.agreement_graphs import compared_sentences
from capcli.engines.decoder_graphs import DECODER_GRAPHS, DecoderGraphs
from capcli.engines.engine import Engine, SentencesRead
from capcli.engines.graph import Graph, NoGraph
from capcli.engines.numpy_sampling import decode, sample_locations
from capcli.engines.numpy_search import Advance, State, Step
from capcli.engines.taught_graphs import TaughtGraphs
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import Vocabulary

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

ENCODED_AT_ONCE = 2  # images per thread; 4 take 80 MB more and no less time


class OnnxEngine(Engine):
    """A checkpoint in ONNX Runtime, whose features are the decoder's first states; see Engine."""

    name = "onnx"
    device, precision = "cpu", "fp32"
    threads = 0  # an attribute where Engine has a property

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None) -> None:
        """Prepare a checkpoint.

        threads: per batch; None is one per core of this process. May be changed before the first batch.
        """
        self.config, self.vocabulary, self.tensors = checkpoint.config, checkpoint.vocabulary, checkpoint.tensors
        self.threads = threads or count_cores()
        self.graphs = make_graphs(self.config, self.vocabulary)
        self.make_start = partial(self.graphs.start, vector=True)
        self.sessions: dict[str, InferenceSession] = {}
        self.locks: dict[str, threading.Lock] = {}

    @classmethod
    def load(cls, folder: str | os.PathLike[str], threads: int | None = None) -> OnnxEngine:
        """Return an engine for a checkpoint folder. Raises ModelError as `store.read_checkpoint` does."""
        return cls(read_checkpoint(folder, tensor_shapes), threads)

    @property
    def facts(self) -> Facts:
        parameters = {name: tensor.size for name, tensor in self.tensors.items() if ".running_" not in name}
        encoder, decoder = (
            sum(size for name, size in parameters.items() if name.startswith(part)) for part in ("encoder.", "decoder.")
        )
        return Facts(self.config, len(self.vocabulary), encoder, decoder)

    def run(self, name: str, make: Callable[[], Graph], *inputs: np.ndarray) -> list[np.ndarray]:
        """Run a graph; return its outputs.

        name: of its session, which is kept.
        make: makes the graph for a new session.
        """
        session = self.session(name, make)
        names = (entry.name for entry in session.get_inputs())
        return session.run(None, dict(zip(names, inputs, strict=True)))

    def session(self, name: str, make: Callable[[], Graph]) -> InferenceSession:
        """Return the named session, making it and its graph if new."""
        with self.locks.setdefault(name, threading.Lock()):
            if name not in self.sessions:
                self.sessions[name] = self.make_session(make())
            return self.sessions[name]

    def prepare(self) -> None:
        """Make the sessions that captions need."""
        self.session("start", self.make_start)
        self.session("step", self.graphs.step)

    def make_session(self, graph: Graph) -> InferenceSession:
        """Return a session of a graph with this checkpoint's weights."""
        from capcli.engines.runtime import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        # Threads that spin while waiting would take cores from other captioning threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors, which are raised as well
        weights = graph.values(self.tensors)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in weights.values()]
        options.add_external_initializers(list(weights), values)
        return onnxruntime.InferenceSession(graph.as_bytes(), options, providers=["CPUExecutionProvider"])

    def encode(self, pixels: np.ndarray) -> State:
        # A few images at a time, whose layers fit the processor's cache and need little memory.
        at_once = ENCODED_AT_ONCE * self.threads
        pieces = [
            self.run("start", self.make_start, pixels[begin : begin + at_once])
            for begin in range(0, len(pixels), at_once)
        ]
        hidden, cell, *memory, vector = map(np.concatenate, zip(*pieces, strict=True))
        photo = None if self.config.agreement_size is None else memory.pop()
        return State(hidden, cell, tuple(memory), photo=photo, vector=vector)

    def search(
        self, features: State, count: int, options: DecodingOptions, generator: np.random.Generator | None = None
    ) -> Hypotheses[np.ndarray]:
        if options.draws and generator is None:
            generator = self.make_generator(options.seed)
        advance: Advance = self.advance
        if options.attention_samples:
            if not self.config.decoder_kind.samples_locations:
                raise ValueError("only hard attention samples locations; this checkpoint has none")
            assert generator is not None
            advance = sample_locations(self.advance_by_points, generator)
            features = features.repeat(options.attention_samples)
        return decode(advance, features, count, options, self.vocabulary, generator)

    def advance(self, words: np.ndarray, state: State) -> Step:
        """Go one word further. words: (batch, beams), `<start>` first."""
        return as_step(state, self.run("step", self.graphs.step, words, *state.arrays()))

    def advance_by_points(self, words: np.ndarray, state: State, points: np.ndarray) -> Step:
        """Go one word further, with locations chosen by points, (batch, beams), 0 to 1."""
        make = partial(self.graphs.step, drawing=True)
        return as_step(state, self.run("drawing", make, words, *state.arrays(), points))

    def make_generator(self, seed: int | None) -> np.random.Generator:
        return np.random.default_rng(None if seed is None else seed % 2**64)

    def start(self, features: State) -> State:
        """Return the features, which are the state."""
        return features

    def step(self, words: np.ndarray, state: State, parents: np.ndarray) -> tuple[np.ndarray, State]:
        step = self.advance(words, state.reorder(parents))
        return step.log_probs, step.state

    def read(self, features: State, words: np.ndarray) -> SentencesRead:
        images, make = len(features.hidden), partial(self.graphs.step, reading=True)
        state = features.reorder(np.zeros((images, len(words)), np.int64))
        logits, attention, gates = [], [], []
        for previous in words.T:
            given = np.tile(previous, (images, 1))
            step = as_step(state, self.run("reading", make, given, *state.arrays()))
            state = step.state
            logits.append(step.log_probs)
            attention += [] if step.attention is None else [step.attention]
            gates += [] if step.gate is None else [step.gate]
        return SentencesRead(
            np.stack(logits, 2), np.stack(attention, 2) if attention else None, np.stack(gates, 2) if gates else None
        )

    def agree(self, features: State, words: np.ndarray) -> np.ndarray:
        make = partial(compared_sentences, self.config, self.config.words_before or len(self.vocabulary))
        assert features.photo is not None
        (sentences,) = self.run("sentences", make, words.reshape(-1, words.shape[2]))
        cosines: np.ndarray = np.einsum("nc,nbc->nb", features.photo, sentences.reshape(*words.shape[:2], -1))
        return cosines

    def vectors(self, features: State) -> np.ndarray:
        assert features.vector is not None
        return features.vector

    def synchronize(self) -> None:
        """Return at once, as a CPU is done by then."""


def make_graphs(config: ModelConfig, vocabulary: Vocabulary) -> DecoderGraphs:
    """Return the graphs of a model."""
    if config.decoder not in DECODER_GRAPHS:
        raise NoGraph(f"the decoder {config.decoder} has no ONNX graph: it runs on PyTorch alone")
    make = DECODER_GRAPHS[config.decoder] if config.words_before is None else TaughtGraphs
    return make(config, len(vocabulary))


def tensor_shapes(config: ModelConfig, vocabulary: Vocabulary) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint's tensors by name."""
    graphs = make_graphs(config, vocabulary)
    shapes = graphs.start().tensors | graphs.step().tensors
    if config.agreement_size is not None:
        shapes |= compared_sentences(config, config.words_before or len(vocabulary)).tensors
    return shapes


def as_step(state: State, outputs: Sequence[np.ndarray]) -> Step:
    """Return a step graph's outputs as a Step, keeping the image's memory. state: before the step."""
    log_probs, hidden, cell, *seen = outputs
    attention, gate = seen or (None, None)
    return Step(log_probs, replace(state, hidden=hidden, cell=cell), attention, gate)


def count_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
