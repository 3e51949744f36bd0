"""Feature maps in an ONNX graph, and the encoders' layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from capcli.engines.graph import Graph, Tensors


class Grid(NamedTuple):
    """Name a feature map in a graph, (batch, channels, side, side)."""

    value: str
    channels: int
    side: int


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
    """Append a convolution without bias and its batch normalisation, folded into one.

    conv, norm: names in the checkpoint.
    kernel, stride, dilation: in pixels.
    padding: before and after, per side, in pixels.
    groups: as in torch.nn.Conv2d.
    epsilon: of the normalisation.
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

    value = graph.add(
        "Conv",
        x.value,
        graph.weight(f"{conv}.folded.weight", shape, {f"{conv}.weight": shape, **parts}, folded),
        graph.weight(f"{conv}.folded.bias", (outputs,), parts, bias),
        group=groups,
        strides=[stride, stride],
        dilations=[dilation, dilation],
        pads=[padding[0], padding[0], padding[1], padding[1]],
    )
    return Grid(value, outputs, (x.side + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1)
