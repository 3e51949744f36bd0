"""The bundled kind of encoder says in ONNX Runtime what it says in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fakes import WORDS

from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.encoder_graphs import ENCODER_GRAPHS
from capcli.engines.graph import FLOAT, Graph
from capcli.engines.onnx import tensor_shapes
from capcli.model.config import ENCODERS, ModelConfig
from capcli.model.encoders import make_encoder
from capcli.model.vocabulary import Vocabulary

onnxruntime = pytest.importorskip("capcli.engines.runtime").onnxruntime


NAME = "efficientnet_lite2"


@pytest.mark.parametrize("stride", ENCODERS[NAME].strides)
@pytest.mark.parametrize("decoder", ["soft", "par-inject"])
def test_a_checkpoint_holds_the_tensors_that_the_graph_needs(stride: int, decoder: str) -> None:
    config = ModelConfig(encoder=NAME, encoder_stride=stride, decoder=decoder)
    with torch.device("meta"):
        state = CaptionModel(config, Vocabulary(WORDS)).state_dict()
    expected = {n: tuple(t.shape) for n, t in state.items() if not n.endswith("num_batches_tracked")}
    assert tensor_shapes(config, Vocabulary(WORDS)) == expected


@pytest.mark.parametrize(("stride", "size"), [(32, 75), (16, 90)])
def test_features_are_those_of_torch(stride: int, size: int) -> None:
    torch.manual_seed(4)
    encoder = make_encoder(NAME, stride)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics of noise, and no scale that is one everywhere
            module.momentum = 1
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.2)
    pixels = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.inference_mode():
        encoder.train()(pixels)
        expected = encoder.eval()(pixels)
    config = ModelConfig(encoder=NAME, encoder_stride=stride, image_size=size)
    graph = Graph()
    grid, vector = ENCODER_GRAPHS[NAME](graph, graph.input("pixels", FLOAT, "batch", 3, size, size), config)
    assert (grid.side, grid.side) == config.grid
    graph.output("grid", grid.value, "batch", grid.channels, grid.side, grid.side)
    graph.output("vector", vector, "batch", ENCODERS[NAME].global_size)
    tensors = {f"encoder.{n}": tensor.numpy() for n, tensor in encoder.state_dict().items()}
    session = onnxruntime.InferenceSession(graph.as_bytes(tensors), providers=["CPUExecutionProvider"])
    found, global_vector = session.run(None, {"pixels": pixels.float().numpy()})
    annotations = found.reshape(2, grid.channels, -1).transpose(0, 2, 1)
    for ours, theirs in ((annotations, expected.annotations), (global_vector, expected.global_vector)):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs.numpy()).max() < 2e-4 * theirs.abs().max()
