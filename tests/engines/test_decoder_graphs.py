"""Graphs of the decoders, and the tensors that they take."""

from __future__ import annotations

import pytest
import torch
from fakes import WORDS, checkpoint_of

from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.onnx import OnnxEngine, tensor_shapes
from capcli.model.config import DECODERS, ENCODERS, ModelConfig
from capcli.model.vocabulary import Vocabulary


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("before", [None, 7])
@pytest.mark.parametrize("stride", ENCODERS["efficientnet_lite2"].strides)
def test_a_checkpoint_holds_the_tensors_that_the_graphs_need(decoder: str, stride: int, before: int | None) -> None:
    sizes = {"hidden_size": 24, "embedding_size": 20, "attention_size": 12}
    config = ModelConfig(encoder_stride=stride, decoder=decoder, words_before=before, **sizes)
    with torch.device("meta"):
        state = CaptionModel(config, Vocabulary(WORDS)).state_dict()
    expected = {n: tuple(t.shape) for n, t in state.items() if not n.endswith("num_batches_tracked")}
    assert tensor_shapes(config, Vocabulary(WORDS)) == expected


def test_graphs_hold_no_weights(tiny_model: CaptionModel) -> None:
    engine = OnnxEngine(checkpoint_of(tiny_model))
    for graph in (engine.graphs.start(), engine.graphs.step(), engine.graphs.step(reading=True)):
        assert len(graph.as_bytes()) < 100_000
