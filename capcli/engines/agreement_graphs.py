"""Agreement of sentences and photos as ONNX graphs; for PyTorch see model/agreement.py."""

from __future__ import annotations

import numpy as np

from capcli.engines.graph import FLOAT, INT64, Graph
from capcli.model.config import FEATURE_WORDS, ModelConfig
from capcli.model.vocabulary import PAD, UNKNOWN


def compared_photo(graph: Graph, vector: str, config: ModelConfig) -> str:
    """Append the photo's projection into the common space, (batch, agreement_size). vector: the encoder's."""
    size = sizes(config)
    hidden = graph.add("Relu", graph.linear(vector, "agreement.hidden", size, config.encoder_kind.global_size))
    return graph.add("LpNormalization", graph.linear(hidden, "agreement.photo", size, size), axis=1, p=2)


def compared_sentences(config: ModelConfig, words: int) -> Graph:
    """Return the graph from words, (rows, time), to sentences in the common space, (rows, agreement_size).

    words: size of the vocabulary when agreement was learnt.
    """
    size = sizes(config)
    channels = size // 2
    graph = Graph()
    given = graph.input("words", INT64, "rows", "time")
    limit, unknown = graph.constant(words, np.int64), graph.constant(UNKNOWN, np.int64)
    known = graph.add("Where", graph.add("Less", given, limit), given, unknown)
    is_word = graph.add("Cast", graph.add("Greater", given, graph.constant(PAD, np.int64)), to=FLOAT)
    is_word = graph.add("Unsqueeze", is_word, graph.constant([1], np.int64))
    embedded = graph.add("Gather", graph.tensor("agreement.embedding.weight", words, channels), known)
    embedded = graph.add("Mul", graph.add("Transpose", embedded, perm=[0, 2, 1]), is_word)
    kernel = graph.tensor("agreement.features.weight", size, channels, FEATURE_WORDS)
    bias = graph.tensor("agreement.features.bias", size)
    features = graph.add("Conv", embedded, kernel, bias, pads=[FEATURE_WORDS // 2] * 2)
    features = graph.add("Mul", graph.add("Relu", features), is_word)
    highest = graph.add("ReduceMax", features, axes=[2], keepdims=0)
    sentence = graph.linear(highest, "agreement.sentence", size, size)
    graph.output("sentences", graph.add("LpNormalization", sentence, axis=1, p=2), "rows", size)
    return graph


def sizes(config: ModelConfig) -> int:
    """Return the common space's channels."""
    assert config.agreement_size is not None
    return config.agreement_size
