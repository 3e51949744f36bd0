"""A taught decoder beside the one it began as, in ONNX graphs; for PyTorch see model/taught.py."""

from __future__ import annotations

import numpy as np

from capcli.engines.convolutions import Grid
from capcli.engines.decoder_graphs import DECODER_GRAPHS, Attended, DecoderGraphs, StepInputs, StepOutputs
from capcli.engines.graph import FLOAT, Graph
from capcli.model.config import ModelConfig
from capcli.model.vocabulary import UNKNOWN


class TaughtGraphs(DecoderGraphs):
    """Run both decoders side by side, and give each photo the output of the one meant for it."""

    def __init__(self, config: ModelConfig, words: int) -> None:
        """Keep the sizes. words: of the vocabulary; the old decoder knew config.words_before of them."""
        super().__init__(config, words)
        assert config.words_before is not None
        kind, counts = DECODER_GRAPHS[config.decoder], {"before": config.words_before, "taught": words}
        self.before, self.taught = (kind(config, count, f"decoder.{name}") for name, count in counts.items())
        self.hidden *= 2

    def begin(self, graph: Graph, grid: Grid, vector: str) -> tuple[str, str, list[str]]:
        """Append both beginnings, and the choice of decoder for each photo."""
        sign = graph.linear(vector, "decoder.near", 1, self.config.encoder_kind.global_size)
        near = graph.add("Cast", graph.add("Greater", sign, graph.constant(0)), to=FLOAT)
        hiddens, cells, memories = zip(*(d.begin(graph, grid, vector) for d in (self.before, self.taught)), strict=True)
        hidden, cell = (graph.add("Concat", *states, axis=1) for states in (hiddens, cells))
        return hidden, cell, [near, *memories[0], *memories[1]]

    def compared(self, graph: Graph, vector: str, memory: list[str]) -> str:
        """Append agreement, zero for photos that the taught decoder captions."""
        before = graph.add("Sub", graph.constant(1), memory[0])
        return graph.add("Mul", before, super().compared(graph, vector, memory))

    def memory_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of that choice, then of both memories."""
        return [(1,), *self.before.memory_shapes(), *self.taught.memory_shapes()]

    def go_on(self, graph: Graph, given: StepInputs, reading: bool) -> StepOutputs:
        """Append a step of both decoders, and the choice between them."""
        near, *rest = given.memory
        half = len(rest) // 2
        hiddens, cells = (graph.split("Split", state, outputs=2, axis=1) for state in (given.hidden, given.cell))
        limit = graph.constant(self.before.words, np.int64)
        known = graph.add(
            "Where", graph.add("Less", given.words, limit), given.words, graph.constant(UNKNOWN, np.int64)
        )
        first = given._replace(words=known, hidden=hiddens[0], cell=cells[0], memory=rest[:half])
        second = given._replace(hidden=hiddens[1], cell=cells[1], memory=rest[half:])
        before, taught = self.before.go_on(graph, first, reading), self.taught.go_on(graph, second, reading)
        image = graph.add("Greater", near, graph.constant(0.5))  # (batch, 1)
        row = graph.reshape(graph.add("Expand", image, given.beams), -1, 1)
        logits = graph.add("Where", row, taught.logits, self.widened(graph, before.logits))
        hidden = graph.add("Concat", before.hidden, taught.hidden, axis=1)
        cell = graph.add("Concat", before.cell, taught.cell, axis=1)
        if before.attended is None or taught.attended is None:
            return StepOutputs(logits, hidden, cell, None)
        each = graph.add("Unsqueeze", image, graph.constant([2], np.int64))
        weights = graph.add("Where", each, taught.attended.weights, before.attended.weights)
        gate = graph.add("Where", row, taught.attended.gate, before.attended.gate)
        return StepOutputs(logits, hidden, cell, Attended(taught.attended.context, weights, gate))

    def widened(self, graph: Graph, logits: str) -> str:
        """Append new words to the old decoder's output, as unlikely as its `<unk>`, which is never printed."""
        more = self.words - self.before.words
        if not more:
            return logits
        unknown = graph.add("Gather", logits, graph.constant([UNKNOWN], np.int64), axis=1)  # −∞ unless it reads
        rows = graph.add("Shape", logits, start=0, end=1)
        shape = graph.add("Concat", rows, graph.constant([more], np.int64), axis=0)
        return graph.add("Concat", logits, graph.add("Expand", unknown, shape), axis=1)
