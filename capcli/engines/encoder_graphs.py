"""Encoders as ONNX graphs, batch normalisation folded into the convolutions; model/encoders.py has them for PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from capcli.engines.graph import Graph, Tensors
from capcli.model import lite2
from capcli.model.config import ModelConfig


class Grid(NamedTuple):
    """Name a feature map in a graph, (batch, channels, side, side)."""

    value: str
    channels: int
    side: int


class NoGraph(ValueError):
    """An encoder that only PyTorch can run."""


def conv_bn(
    graph: Graph,
    x: Grid,
    name: str,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    dilation: int = 1,
    depthwise: bool = False,
) -> Grid:
    """Append a convolution with TensorFlow's SAME padding and the batch normalisation behind it, as one convolution.

    name: of the pair in the checkpoint. kernel, stride, dilation: in pixels. depthwise: one channel to a kernel.
    """
    groups = x.channels if depthwise else 1
    shape = (outputs, x.channels // groups, kernel, kernel)
    norm: dict[str, tuple[int, ...]] = {
        f"{name}.1.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")
    }

    def scale(tensors: Tensors) -> np.ndarray:
        return tensors[f"{name}.1.weight"] / np.sqrt(tensors[f"{name}.1.running_var"] + lite2.EPSILON)

    def folded(tensors: Tensors) -> np.ndarray:
        return tensors[f"{name}.0.weight"] * scale(tensors)[:, None, None, None]

    def bias(tensors: Tensors) -> np.ndarray:
        return tensors[f"{name}.1.bias"] - tensors[f"{name}.1.running_mean"] * scale(tensors)

    before, behind = lite2.same_padding(x.side, kernel, stride, dilation)
    value = graph.add(
        "Conv",
        x.value,
        graph.weight(f"{name}.folded.weight", shape, {f"{name}.0.weight": shape, **norm}, folded),
        graph.weight(f"{name}.folded.bias", (outputs,), norm, bias),
        group=groups,
        strides=[stride, stride],
        dilations=[dilation, dilation],
        pads=[before, before, behind, behind],
    )
    return Grid(value, outputs, -(-x.side // stride))


def relu6(graph: Graph, x: Grid) -> Grid:
    """Append a ReLU that ends at 6."""
    return x._replace(value=graph.add("Clip", x.value, graph.constant(0), graph.constant(6)))


def efficientnet_lite2(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append EfficientNet-Lite2 up to its last feature map."""
    scaled = graph.add("Div", graph.add("Sub", pixels, graph.constant(127)), graph.constant(128))
    x = relu6(graph, conv_bn(graph, Grid(scaled, 3, config.image_size), "encoder.stem.0", lite2.STEM_CHANNELS, 3, 2))
    for number, stage in enumerate(lite2.make_stages(config.encoder_stride)):
        for index, block in enumerate(stage):
            name, before, layer = f"encoder.stages.{number}.{index}.layers", x, 0
            hidden = block.inputs * block.expansion
            if block.expansion != 1:
                x, layer = relu6(graph, conv_bn(graph, x, f"{name}.0", hidden)), 2
            wide = conv_bn(graph, x, f"{name}.{layer}", hidden, block.kernel, block.stride, block.dilation, True)
            x = conv_bn(graph, relu6(graph, wide), f"{name}.{layer + 2}", block.outputs)
            if block.is_residual:
                x = x._replace(value=graph.add("Add", x.value, before.value))
    x = relu6(graph, conv_bn(graph, x, "encoder.head.0", lite2.HEAD_CHANNELS))
    mean = graph.add("GlobalAveragePool", x.value)
    return x, graph.reshape(mean, 0, x.channels)


# What appends each encoder that there is a graph of to one: from pixels, (batch, 3, side, side) in float32, to the last
# feature map and the global vector, (batch, channels).
ENCODER_GRAPHS: dict[str, Callable[[Graph, str, ModelConfig], tuple[Grid, str]]] = {
    "efficientnet_lite2": efficientnet_lite2,
}


def append_encoder(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append the encoder that a config names. Raises NoGraph."""
    if config.encoder not in ENCODER_GRAPHS:
        raise NoGraph(f"there is no ONNX graph of the encoder {config.encoder}")
    return ENCODER_GRAPHS[config.encoder](graph, pixels, config)
