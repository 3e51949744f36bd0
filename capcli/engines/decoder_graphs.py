"""Decoders as ONNX graphs: from pixels to the first state, and one word further.

For PyTorch, and the reasons, see model/decoders.py and model/attention.py. Rows inside a graph are beams, (batch ×
beams, …).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from capcli.engines.agreement_graphs import compared_photo
from capcli.engines.convolutions import Grid
from capcli.engines.encoder_graphs import ENCODER_GRAPHS
from capcli.engines.graph import FLOAT, INT64, UINT8, Graph, NoGraph, Tensors
from capcli.model.config import REFINER_HEADS, REFINER_WIDTH, ModelConfig
from capcli.model.vocabulary import NEVER_PRINTED

EPSILON = 1e-5  # of layer normalisation


class Attended(NamedTuple):
    """Name a step's view of the image.

    context: (rows, embedding), gated; weights: (batch, beams, locations); gate: (rows, 1).
    """

    context: str
    weights: str
    gate: str


class StepInputs(NamedTuple):
    """Name a step's inputs.

    words: (batch, beams), the previous ones; beams: their shape.
    hidden, cell: (rows, hidden).
    memory: shared by an image's beams.
    points: (batch, beams), drawing hard attention's locations; None for the most probable.
    """

    words: str
    beams: str
    hidden: str
    cell: str
    memory: list[str]
    points: str | None


class StepOutputs(NamedTuple):
    """Name a step's outputs.

    logits: (rows, vocabulary), log-probabilities unless reading; hidden, cell: (rows, hidden).
    attended: None without attention.
    """

    logits: str
    hidden: str
    cell: str
    attended: Attended | None


class DecoderGraphs(ABC):
    """Make the graphs of a kind of decoder."""

    image_inputs = 0  # of the LSTM

    def __init__(self, config: ModelConfig, words: int, name: str = "decoder") -> None:
        """Keep the sizes. words: of the vocabulary. name: prefix of the decoder's tensors."""
        self.config, self.words, self.name = config, words, name
        self.hidden, self.embedding = config.hidden_size, config.embedding_size

    def start(self, vector: bool = False) -> Graph:
        """Return the graph from pixels, (batch, side, side, 3) uint8, to the first state.

        It outputs hidden and cell, (batch, 1, hidden), the memory shared by an image's beams, the photo in the space of
        agreement and, with vector, the encoder's global vector, (batch, channels).

        Raises NoGraph.
        """
        graph, side = Graph(), self.config.image_size
        pixels = graph.add("Cast", graph.input("pixels", UINT8, "batch", side, side, 3), to=FLOAT)
        channels_first = graph.add("Transpose", pixels, perm=[0, 3, 1, 2])
        if self.config.encoder not in ENCODER_GRAPHS:
            raise NoGraph(f"the encoder {self.config.encoder} has no ONNX graph: it runs on PyTorch alone")
        grid, pooled = ENCODER_GRAPHS[self.config.encoder](graph, channels_first, self.config)
        hidden, cell, memory = self.begin(graph, grid, pooled)
        for name, state in (("hidden", hidden), ("cell", cell)):
            graph.output(name, graph.reshape(state, -1, 1, self.hidden), "batch", 1, self.hidden)
        for index, (value, shape) in enumerate(zip(memory, self.memory_shapes(), strict=True)):
            graph.output(f"memory{index}", value, "batch", *shape)
        if self.config.agreement_size is not None:
            graph.output("photo", self.compared(graph, pooled, memory), "batch", self.config.agreement_size)
        if vector:
            graph.output("vector", pooled, "batch", self.config.encoder_kind.global_size)
        return graph

    def step(self, reading: bool = False, drawing: bool = False) -> Graph:
        """Return the graph one word further, from words, (batch, beams), and a state.

        It outputs log-probabilities, (batch, beams, vocabulary), the new state, attention, (batch, beams, locations),
        and gate, (batch, beams).

        reading: whether to output logits, `<unk>` included. drawing: whether a last input, points, (batch, beams) from
            0 to 1, draws hard attention's locations.
        """
        graph = Graph()
        words = graph.input("words", INT64, "batch", "beams")
        hidden, cell = (
            graph.reshape(graph.input(name, FLOAT, "batch", "beams", self.hidden), -1, self.hidden)
            for name in ("hidden", "cell")
        )
        memory = [
            graph.input(f"memory{index}", FLOAT, "batch", *shape) for index, shape in enumerate(self.memory_shapes())
        ]
        points = graph.input("points", FLOAT, "batch", "beams") if drawing else None
        beams = graph.add("Shape", words)
        logits, hidden, cell, attended = self.go_on(
            graph, StepInputs(words, beams, hidden, cell, memory, points), reading
        )
        for name, value, size in (
            ("logits" if reading else "log_probs", logits, self.words),
            ("new_hidden", hidden, self.hidden),
            ("new_cell", cell, self.hidden),
        ):
            graph.output(name, self.unflatten(graph, beams, value, size), "batch", "beams", size)
        if attended:
            rows, columns = self.config.grid
            graph.output("weights", attended.weights, "batch", "beams", rows * columns)
            graph.output("gate", graph.add("Reshape", attended.gate, beams), "batch", "beams")
        return graph

    def go_on(self, graph: Graph, given: StepInputs, reading: bool) -> StepOutputs:
        """Append one step. reading: see `step`."""
        embedded = self.embed(graph, given.words)
        attended = self.look(graph, given.beams, given.hidden, given.memory, given.points)
        image = [attended.context] if attended else [self.shared(graph, given.beams, value) for value in given.memory]
        inputs = [*([embedded] if self.config.feed_previous_word else []), *image]
        hidden, cell = self.lstm(graph, inputs, given.hidden, given.cell)
        return StepOutputs(self.predict(graph, embedded, hidden, attended, reading), hidden, cell, attended)

    @abstractmethod
    def begin(self, graph: Graph, grid: Grid, vector: str) -> tuple[str, str, list[str]]:
        """Append the layers from encoder to hidden and cell, (batch, hidden), and memory."""

    def compared(self, graph: Graph, vector: str, memory: list[str]) -> str:
        """Append the photo's projection into the space of agreement, (batch, agreement_size)."""
        return compared_photo(graph, vector, self.config)

    def memory_shapes(self) -> list[tuple[int, ...]]:
        """Return the memory's shapes, without the batch."""
        return []

    def look(self, graph: Graph, beams: str, hidden: str, memory: list[str], points: str | None) -> Attended | None:
        """Append attention, if any."""
        return None

    def embed(self, graph: Graph, words: str) -> str:
        """Append the embedding of words, (rows, embedding)."""
        embedded = graph.add("Gather", graph.tensor(f"{self.name}.embedding.weight", self.words, self.embedding), words)
        return graph.reshape(graph.add("Mul", embedded, graph.constant(self.embedding**0.5)), -1, self.embedding)

    def lstm(self, graph: Graph, inputs: list[str], hidden: str | None, cell: str | None) -> tuple[str, str]:
        """Append an LSTM cell; return hidden and cell, (rows, hidden). None: h = c = 0."""
        fed = (self.config.feed_previous_word + self.image_inputs) * self.embedding
        biases = {f"{self.name}.lstm.{name}": (4 * self.hidden,) for name in ("bias_ih", "bias_hh")}
        bias = graph.weight(
            f"{self.name}.lstm.bias",
            (4 * self.hidden,),
            biases,
            lambda t: sum(t[name] for name in biases),  # type: ignore[arg-type,return-value]
        )
        x = graph.add("Concat", *inputs, axis=1)
        gates = graph.add("Gemm", x, graph.tensor(f"{self.name}.lstm.weight_ih", 4 * self.hidden, fed), bias, transB=1)
        if hidden is not None:
            recurrent = graph.tensor(f"{self.name}.lstm.weight_hh", 4 * self.hidden, self.hidden)
            gates = graph.add("Gemm", hidden, recurrent, gates, transB=1)
        enter, forget, new, leave = graph.split("Split", gates, outputs=4, axis=1)
        enter, forget, leave = (graph.add("Sigmoid", gate) for gate in (enter, forget, leave))
        kept = graph.add("Mul", enter, graph.add("Tanh", new))
        if cell is not None:
            kept = graph.add("Add", graph.add("Mul", forget, cell), kept)
        return graph.add("Mul", leave, graph.add("Tanh", kept)), kept

    def predict(self, graph: Graph, embedded: str, hidden: str, attended: Attended | None, reading: bool) -> str:
        """Append the deep output layer, (rows, vocabulary)."""
        deep = graph.linear(hidden, f"{self.name}.output_hidden", self.embedding, self.hidden)
        if self.config.feed_previous_word:
            deep = graph.add("Add", embedded, deep)
        if attended:
            context = graph.linear(
                attended.context, f"{self.name}.output_context", self.embedding, self.embedding, bias=False
            )
            deep = graph.add("Add", deep, context)
        weight = graph.tensor(f"{self.name}.embedding.weight", self.words, self.embedding)
        bias = graph.tensor(f"{self.name}.output_bias", self.words) if reading else self.printing_bias(graph)
        logits = graph.add("Gemm", graph.add("Tanh", deep), weight, bias, transB=1)
        return logits if reading else graph.add("LogSoftmax", logits, axis=1)

    def printing_bias(self, graph: Graph) -> str:
        """Return the output layer's bias, which rules out special words other than `<end>`."""

        def masked(tensors: Tensors) -> np.ndarray:
            bias = tensors[f"{self.name}.output_bias"].copy()
            bias[NEVER_PRINTED] = -np.inf
            return bias

        return graph.weight(
            f"{self.name}.printing_bias", (self.words,), {f"{self.name}.output_bias": (self.words,)}, masked
        )

    def unflatten(self, graph: Graph, beams: str, rows: str, size: int) -> str:
        """Append a reshape from (rows, size) to (batch, beams, size)."""
        return graph.add("Reshape", rows, graph.add("Concat", beams, graph.constant([size], np.int64), axis=0))

    def shared(self, graph: Graph, beams: str, value: str) -> str:
        """Append copies of (batch, 1, embedding) for all beams, (rows, embedding)."""
        shape = graph.add("Concat", beams, graph.constant([self.embedding], np.int64), axis=0)
        return graph.reshape(graph.add("Expand", value, shape), -1, self.embedding)

    def project_image(self, graph: Graph, vector: str) -> str:
        """Append the global vector's projection to the size of a word, (batch, embedding)."""
        size = self.embedding
        projected = graph.linear(vector, f"{self.name}.image.0", size, self.config.encoder_kind.global_size)
        norm = (graph.tensor(f"{self.name}.image.1.{name}", size) for name in ("weight", "bias"))
        return graph.add("LayerNormalization", projected, *norm, axis=1, epsilon=EPSILON)


class PreInjectGraphs(DecoderGraphs):
    """Feed the image to the first LSTM cell only."""

    def begin(self, graph: Graph, grid: Grid, vector: str) -> tuple[str, str, list[str]]:
        """Append the cell fed the image."""
        return *self.lstm(graph, [self.project_image(graph, vector)], None, None), []


class ParInjectGraphs(DecoderGraphs):
    """Feed the image to every LSTM cell."""

    image_inputs = 1

    def begin(self, graph: Graph, grid: Grid, vector: str) -> tuple[str, str, list[str]]:
        """Append a blank state and the projected image."""
        image = self.project_image(graph, vector)
        rows = graph.add("Shape", image, start=0, end=1)
        shape = graph.add("Concat", rows, graph.constant([self.hidden], np.int64), axis=0)
        zeros = graph.add("Expand", graph.constant([[0]]), shape)
        return zeros, zeros, [graph.reshape(image, -1, 1, self.embedding)]

    def memory_shapes(self) -> list[tuple[int, ...]]:
        return [(1, self.embedding)]


class AttentionGraphs(DecoderGraphs):
    """Feed every LSTM cell a gated context vector chosen by attention."""

    image_inputs = 1

    @property
    def locations(self) -> int:
        """Return the number of grid cells."""
        rows, columns = self.config.grid
        return rows * columns

    def begin(self, graph: Graph, grid: Grid, vector: str) -> tuple[str, str, list[str]]:
        """Append annotation layer, attention's keys and first state."""
        size, attention = self.embedding, self.config.attention_size
        shape = (size, grid.channels)
        kernel = graph.weight(
            f"{self.name}.annotation.kernel",
            (*shape, 1, 1),
            {f"{self.name}.annotation.weight": shape},
            lambda tensors: tensors[f"{self.name}.annotation.weight"][:, :, None, None],
        )
        layer = graph.add("Conv", grid.value, kernel, graph.tensor(f"{self.name}.annotation.bias", size))
        cells = graph.reshape(graph.add("Relu", layer), 0, size, self.locations)
        annotations = graph.add("Transpose", cells, perm=[0, 2, 1])
        if self.config.refine:
            annotations = self.refine(graph, annotations)
        flat = graph.reshape(annotations, -1, size)
        keys = graph.linear(flat, f"{self.name}.attention.key", attention, size, bias=False, factor=2)
        mean = graph.add("ReduceMean", annotations, axes=[1], keepdims=0)
        initial = graph.add("Tanh", graph.linear(mean, f"{self.name}.initial.0", 2 * self.hidden, size))
        hidden, cell = graph.split("Split", initial, outputs=2, axis=1)
        return hidden, cell, [annotations, graph.reshape(keys, -1, self.locations, attention)]

    def refine(self, graph: Graph, annotations: str) -> str:
        """Append self-attention over the grid and its layer; for PyTorch see model/refiner.py."""
        size, name = self.embedding, f"{self.name}.refiner"

        def normalised(flat: str, layer: str) -> str:
            weights = (graph.tensor(f"{name}.{layer}.{part}", size) for part in ("weight", "bias"))
            return graph.add("LayerNormalization", flat, *weights, axis=1, epsilon=EPSILON)

        flat = graph.reshape(annotations, -1, size)
        parts = graph.linear(normalised(flat, "norm"), f"{name}.read", 3 * size, size)
        parts = graph.reshape(parts, -1, self.locations, 3, REFINER_HEADS, size // REFINER_HEADS)
        queries, keys, values = graph.split("Split", graph.add("Transpose", parts, perm=[2, 0, 3, 1, 4]), outputs=3)
        products = graph.add("MatMul", queries, graph.add("Transpose", keys, perm=[0, 1, 2, 4, 3]))
        scale = graph.constant((size // REFINER_HEADS) ** -0.5)
        weights = graph.add("Softmax", graph.add("Mul", products, scale), axis=4)
        seen = graph.add("Transpose", graph.add("MatMul", weights, values), perm=[0, 1, 3, 2, 4])
        joined = graph.linear(graph.reshape(seen, -1, size), f"{name}.join", size, size)
        flat = graph.add("Add", flat, joined)
        wide = graph.add(
            "Relu", graph.linear(normalised(flat, "norm_wide"), f"{name}.widen", REFINER_WIDTH * size, size)
        )
        flat = graph.add("Add", flat, graph.linear(wide, f"{name}.narrow", size, REFINER_WIDTH * size))
        return graph.reshape(flat, -1, self.locations, size)

    def memory_shapes(self) -> list[tuple[int, ...]]:
        return [(self.locations, self.embedding), (self.locations, self.config.attention_size)]

    def look(self, graph: Graph, beams: str, hidden: str, memory: list[str], points: str | None) -> Attended:
        annotations, keys = memory
        size = self.config.attention_size
        query = graph.linear(hidden, f"{self.name}.attention.query", size, self.hidden, factor=2)
        query = graph.add("Unsqueeze", self.unflatten(graph, beams, query, size), graph.constant([2], np.int64))
        keys = graph.add("Unsqueeze", keys, graph.constant([1], np.int64))
        mixed = graph.add("Sigmoid", graph.add("Add", query, keys))
        scores = graph.linear(
            graph.reshape(mixed, -1, size), f"{self.name}.attention.score", 1, size, bias=False, factor=2
        )
        weights = graph.add("Softmax", self.unflatten(graph, beams, scores, self.locations), axis=2)
        if self.config.decoder_kind.samples_locations:
            weights = self.choose(graph, weights, points)
        gate = graph.add("Sigmoid", graph.linear(hidden, f"{self.name}.gate", 1, self.hidden))
        context = graph.reshape(graph.add("MatMul", weights, annotations), -1, self.embedding)
        return Attended(graph.add("Mul", gate, context), weights, gate)

    def choose(self, graph: Graph, distribution: str, points: str | None) -> str:
        """Append hard attention's location, 1 in (batch, beams, locations).

        It is the most probable or, with points, the first where the cumulative probability passes the point.
        """
        if points is None:
            chosen = graph.add("ArgMax", distribution, axis=2, keepdims=0)
        else:
            reached = graph.add("CumSum", distribution, graph.constant(2, np.int64))
            point = graph.add("Unsqueeze", points, graph.constant([2], np.int64))
            before = graph.add("Cast", graph.add("LessOrEqual", reached, point), to=INT64)
            passed = graph.add("ReduceSum", before, graph.constant([2], np.int64), keepdims=0)
            chosen = graph.add("Min", passed, graph.constant(self.locations - 1, np.int64))
        return graph.add("OneHot", chosen, graph.constant(self.locations, np.int64), graph.constant([0, 1]), axis=-1)


# Graphs of each name in `config.DECODERS`.
DECODER_GRAPHS: dict[str, type[DecoderGraphs]] = {
    "pre-inject": PreInjectGraphs,
    "par-inject": ParInjectGraphs,
    "soft": AttentionGraphs,
    "hard": AttentionGraphs,
}
