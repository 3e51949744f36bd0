"""Feature maps in an ONNX graph, and the layers that all encoders make them with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from capcli.engines.graph import Graph, Tensors


class Grid(NamedTuple):
    """Name a feature map in a graph, (batch, channels, side, side)."""

    value: str
    channels: int
    side: int


def convolve(
    graph: Graph,
    x: Grid,
    weight: str,
    bias: str,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
) -> Grid:
    """Append a convolution.

    weight, bias: values of the graph.
    kernel, stride, dilation: in pixels.
    padding: in front and behind along each side, in pixels.
    groups: as torch.nn.Conv2d has them.
    """
    value = graph.add(
        "Conv",
        x.value,
        weight,
        bias,
        group=groups,
        strides=[stride, stride],
        dilations=[dilation, dilation],
        pads=[padding[0], padding[0], padding[1], padding[1]],
    )
    return Grid(value, outputs, (x.side + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1)


def conv_bn(
    graph: Graph,
    x: Grid,
    conv: str,
    norm: str,
    outputs: int,
    kernel: int = 1,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    groups: int = 1,
    epsilon: float = 1e-5,
) -> Grid:
    """Append a convolution without bias and the batch normalisation behind it, as one convolution.

    conv, norm: their names in the checkpoint.
    epsilon: of the normalisation.
    The others are as `convolve` takes them.
    """
    shape = (outputs, x.channels // groups, kernel, kernel)
    parts: dict[str, tuple[int, ...]] = {
        f"{norm}.{part}": (outputs,) for part in ("weight", "bias", "running_mean", "running_var")
    }

    def scale(tensors: Tensors) -> np.ndarray:
        return tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + epsilon)

    def folded(tensors: Tensors) -> np.ndarray:
        return tensors[f"{conv}.weight"] * scale(tensors)[:, None, None, None]

    def bias(tensors: Tensors) -> np.ndarray:
        return tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale(tensors)

    return convolve(
        graph,
        x,
        graph.weight(f"{conv}.folded.weight", shape, {f"{conv}.weight": shape, **parts}, folded),
        graph.weight(f"{conv}.folded.bias", (outputs,), parts, bias),
        outputs,
        kernel,
        stride,
        padding,
        dilation,
        groups,
    )


def mean_of(graph: Graph, x: Grid) -> str:
    """Append the mean over a feature map; (batch, channels)."""
    return graph.reshape(graph.add("GlobalAveragePool", x.value), 0, x.channels)
