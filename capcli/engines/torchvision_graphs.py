"""Torchvision's networks as ONNX graphs, cut where model/encoders.py cuts them; sizes and names are torchvision's."""

from __future__ import annotations

import numpy as np

from capcli.engines.convolutions import Grid, conv_bn, convolve, mean_of
from capcli.engines.graph import Graph
from capcli.model.config import ModelConfig

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
RESNET_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
# (kernel, expanded channels, output channels, squeeze-and-excitation, hard swish instead of ReLU, stride).
MOBILENET_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
MOBILENET_EPSILON = 1e-3
VGG_LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # channels; 0: a pooling
CONVNEXT_STAGES = ((3, 96), (3, 192), (9, 384), (3, 768))  # blocks, channels
CONVNEXT_EPSILON = 1e-6


def normalise(graph: Graph, pixels: str, config: ModelConfig) -> Grid:
    """Append the scaling that all of them were trained with."""
    mean, deviation = (graph.constant(np.reshape(values, (3, 1, 1))) for values in (MEAN, DEVIATION))
    scaled = graph.add("Sub", graph.add("Div", pixels, graph.constant(255)), mean)
    return Grid(graph.add("Div", scaled, deviation), 3, config.image_size)


def apply(graph: Graph, x: Grid, kind: str, **attributes: float) -> Grid:
    """Append an activation."""
    return x._replace(value=graph.add(kind, x.value, **attributes))


def max_pool(graph: Graph, x: Grid, kernel: int, padding: int) -> Grid:
    """Append a max pooling with stride 2."""
    pooled = graph.add("MaxPool", x.value, kernel_shape=[kernel] * 2, strides=[2, 2], pads=[padding] * 4)
    return Grid(pooled, x.channels, (x.side + 2 * padding - kernel) // 2 + 1)


def biased(
    graph: Graph, x: Grid, name: str, outputs: int, kernel: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> Grid:
    """Append a convolution with its bias. name: in the checkpoint."""
    weight = graph.tensor(f"{name}.weight", outputs, x.channels // groups, kernel, kernel)
    bias = graph.tensor(f"{name}.bias", outputs)
    return convolve(graph, x, weight, bias, outputs, kernel, stride, (padding, padding), groups=groups)


def resnet(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append a ResNet of bottlenecks (He et al. 2016), the stride in their 3×3 convolutions."""
    x = normalise(graph, pixels, config)
    x = conv_bn(graph, x, "encoder.features.0", "encoder.features.1", 64, 7, 2, (3, 3))
    x = max_pool(graph, apply(graph, x, "Relu"), 3, 1)
    for stage, blocks in enumerate(RESNET_BLOCKS[config.encoder]):
        width = 64 * 2**stage
        for index in range(blocks):
            name, before = f"encoder.features.{4 + stage}.{index}", x
            stride = 2 if stage and not index else 1
            for layer, outputs, kernel, step in ((1, width, 1, 1), (2, width, 3, stride), (3, 4 * width, 1, 1)):
                padding = (kernel // 2, kernel // 2)
                x = conv_bn(graph, x, f"{name}.conv{layer}", f"{name}.bn{layer}", outputs, kernel, step, padding)
                x = apply(graph, x, "Relu") if layer < 3 else x
            if not index:
                down = f"{name}.downsample"
                before = conv_bn(graph, before, f"{down}.0", f"{down}.1", 4 * width, 1, stride)
            x = apply(graph, x._replace(value=graph.add("Add", x.value, before.value)), "Relu")
    return x, mean_of(graph, x)


def mobilenet_v3(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append MobileNetV3-Large (Howard et al. 2019)."""

    def layer(x: Grid, name: str, outputs: int, kernel: int, stride: int, groups: int, activation: str | None) -> Grid:
        padding, epsilon = (kernel // 2, kernel // 2), MOBILENET_EPSILON
        names = f"{name}.0", f"{name}.1"
        x = conv_bn(graph, x, *names, outputs, kernel, stride, padding, groups=groups, epsilon=epsilon)
        return apply(graph, x, activation) if activation else x

    x = layer(normalise(graph, pixels, config), "encoder.features.0", 16, 3, 2, 1, "HardSwish")
    for index, (kernel, wide, outputs, squeeze, swish, stride) in enumerate(MOBILENET_BLOCKS, 1):
        name, before, part = f"encoder.features.{index}.block", x, 0
        activation = "HardSwish" if swish else "Relu"
        if wide != x.channels:
            x, part = layer(x, f"{name}.0", wide, 1, 1, 1, activation), 1
        x = layer(x, f"{name}.{part}", wide, kernel, stride, wide, activation)
        if squeeze:
            part += 1
            x = excite(graph, x, f"{name}.{part}")
        x = layer(x, f"{name}.{part + 1}", outputs, 1, 1, 1, None)
        if stride == 1 and outputs == before.channels:
            x = x._replace(value=graph.add("Add", x.value, before.value))
    x = layer(x, f"encoder.features.{len(MOBILENET_BLOCKS) + 1}", 960, 1, 1, 1, "HardSwish")
    return x, mean_of(graph, x)


def excite(graph: Graph, x: Grid, name: str) -> Grid:
    """Append squeeze-and-excitation to a quarter of the channels, in eights."""
    quarter = x.channels / 4
    channels = max(8, int(quarter + 4) // 8 * 8)
    channels += 8 if channels < 0.9 * quarter else 0
    mean = Grid(graph.add("GlobalAveragePool", x.value), x.channels, 1)
    squeezed = apply(graph, biased(graph, mean, f"{name}.fc1", channels, 1), "Relu")
    weights = apply(graph, biased(graph, squeezed, f"{name}.fc2", x.channels, 1), "HardSigmoid", alpha=1 / 6, beta=0.5)
    return x._replace(value=graph.add("Mul", x.value, weights.value))


def vgg16(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append VGG-16 (Simonyan & Zisserman 2015) up to conv5_3, and fc7 as the global vector."""
    x, index = normalise(graph, pixels, config), 0
    for channels in VGG_LAYERS:
        if channels:
            x = apply(graph, biased(graph, x, f"encoder.features.{index}", channels, 3, 1, 1), "Relu")
        else:
            x = max_pool(graph, x, 2, 0)
        index += 2 if channels else 1
    last = max_pool(graph, x, 2, 0)
    # torch.nn.AdaptiveAvgPool2d(7): cell i is the mean from ⌊i n / 7⌋ to ⌈(i + 1) n / 7⌉.
    means = np.zeros((7, last.side))
    for i in range(7):
        begin, end = i * last.side // 7, -(-(i + 1) * last.side // 7)
        means[i, begin:end] = 1 / (end - begin)
    pooled = graph.add("MatMul", graph.add("MatMul", graph.constant(means), last.value), graph.constant(means.T))
    hidden = graph.add("Relu", graph.linear(graph.reshape(pooled, 0, -1), "encoder.pool.3.0", 4096, 512 * 49))
    return x, graph.add("Relu", graph.linear(hidden, "encoder.pool.3.3", 4096, 4096))


def convnext(graph: Graph, pixels: str, config: ModelConfig) -> tuple[Grid, str]:
    """Append ConvNeXt-Tiny (Liu et al. 2022)."""

    def norm(value: str, name: str, channels: int) -> str:
        parts = (graph.tensor(f"{name}.{part}", channels) for part in ("weight", "bias"))
        return graph.add("LayerNormalization", value, *parts, axis=-1, epsilon=CONVNEXT_EPSILON)

    def channels_last(x: Grid) -> str:
        return graph.add("Transpose", x.value, perm=[0, 2, 3, 1])

    def channels_first(value: str, x: Grid) -> Grid:
        return x._replace(value=graph.add("Transpose", value, perm=[0, 3, 1, 2]))

    x = biased(graph, normalise(graph, pixels, config), "encoder.features.0.0", 96, 4, 4)
    x = channels_first(norm(channels_last(x), "encoder.features.0.1", 96), x)
    for stage, (blocks, channels) in enumerate(CONVNEXT_STAGES):
        if stage:
            name = f"encoder.features.{2 * stage}"
            x = channels_first(norm(channels_last(x), f"{name}.0", x.channels), x)
            x = biased(graph, x, f"{name}.1", channels, 2, 2)
        for index in range(blocks):
            name, before = f"encoder.features.{2 * stage + 1}.{index}", x
            x = biased(graph, x, f"{name}.block.0", channels, 7, 1, 3, groups=channels)
            rows = graph.reshape(norm(channels_last(x), f"{name}.block.2", channels), -1, channels)
            wide = gelu(graph, graph.linear(rows, f"{name}.block.3", 4 * channels, channels))
            rows = graph.linear(wide, f"{name}.block.5", channels, 4 * channels)
            x = channels_first(graph.reshape(rows, -1, x.side, x.side, channels), x)
            scaled = graph.add("Mul", x.value, graph.tensor(f"{name}.layer_scale", channels, 1, 1))
            x = x._replace(value=graph.add("Add", scaled, before.value))
    return x, norm(mean_of(graph, x), "encoder.pool.1", x.channels)


def gelu(graph: Graph, x: str) -> str:
    """Append x Φ(x), which ONNX has no operator for in this version."""
    phi = graph.add("Add", graph.add("Erf", graph.add("Mul", x, graph.constant(0.5**0.5))), graph.constant(1))
    return graph.add("Mul", graph.add("Mul", x, graph.constant(0.5)), phi)
