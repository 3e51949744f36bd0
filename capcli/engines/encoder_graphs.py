"""Encoders as ONNX graphs, batch normalisation folded into convolutions; for PyTorch see model/encoders.py.

Only the bundled kind has one.
"""

from __future__ import annotations

from collections.abc import Callable

from capcli.engines.convolutions import Grid, conv_bn
from capcli.engines.graph import Graph
from capcli.model import lite2
from capcli.model.config import ModelConfig


def same(
    graph: Graph, x: Grid, name: str, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
) -> Grid:
    """Append `conv_bn` with TensorFlow's SAME padding. name: the pair's in the checkpoint."""
    padding = lite2.same_padding(x.side, kernel, stride, dilation)
    names = f"{name}.0", f"{name}.1"
    return conv_bn(graph, x, *names, outputs, kernel, stride, padding, dilation, groups, lite2.EPSILON)


def relu6(graph: Graph, x: Grid) -> Grid:
    """Append a ReLU capped at 6."""
    return x._replace(value=graph.add("Clip", x.value, graph.constant(0), graph.constant(6)))


def efficientnet_lite2(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append EfficientNet-Lite2 up to its last feature map."""
    scaled = graph.add("Div", graph.add("Sub", pixels, graph.constant(127)), graph.constant(128))
    x = relu6(graph, same(graph, Grid(scaled, 3, config.image_size), "encoder.stem.0", lite2.STEM_CHANNELS, 3, 2))
    for number, stage in enumerate(lite2.make_stages(config.encoder_stride)):
        for index, block in enumerate(stage):
            name, before, layer = f"encoder.stages.{number}.{index}.layers", x, 0
            hidden = block.inputs * block.expansion
            if block.expansion != 1:
                x, layer = relu6(graph, same(graph, x, f"{name}.0", hidden)), 2
            sizes = hidden, block.kernel, block.stride, block.dilation
            wide = same(graph, x, f"{name}.{layer}", *sizes, groups=hidden)
            x = same(graph, relu6(graph, wide), f"{name}.{layer + 2}", block.outputs)
            if block.is_residual:
                x = x._replace(value=graph.add("Add", x.value, before.value))
    x = relu6(graph, same(graph, x, "encoder.head.0", lite2.HEAD_CHANNELS))
    return x, graph.reshape(graph.add("GlobalAveragePool", x.value), 0, x.channels)


# By name in `config.ENCODERS`: appends the layers from pixels, (batch, 3, side, side) float32, to the last feature map
# and the global vector, (batch, channels).
ENCODER_GRAPHS: dict[str, Callable[[Graph, str, ModelConfig], tuple[Grid, str]]] = {
    "efficientnet_lite2": efficientnet_lite2
}
