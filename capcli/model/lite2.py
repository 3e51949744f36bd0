"""EfficientNet-Lite2 as a table, for whoever builds it; nothing here needs PyTorch.

Tan & Le 2019 (arXiv:1905.11946) with the Lite changes published with TensorFlow's EfficientNet-Lite: no
squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

from __future__ import annotations

from typing import NamedTuple

# (repeats, kernel, stride, expansion, output channels), B0's table scaled by width 1.1 and depth 1.2.
STAGES = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
LAST_STRIDED_STAGE = 5
EPSILON = 1e-3  # of batch normalisation


class Block(NamedTuple):
    """Describe an inverted residual block (Sandler et al. 2018): expand 1×1, depthwise k×k, project 1×1."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    dilation: int

    @property
    def is_residual(self) -> bool:
        """Return whether the input is added back.

        The input channels decide too, not the stride alone: a stage whose stride was taken away still changes width.
        """
        return self.stride == 1 and self.inputs == self.outputs


def make_stages(stride: int) -> list[list[Block]]:
    """Return the blocks of each stage.

    stride: 32, or 16 by taking the stride out of the last strided stage and dilating what follows (as Yu & Koltun
        2016), with the same weights.
    """
    stages, channels, dilation = [], STEM_CHANNELS, 1
    for index, (repeats, kernel, step, expansion, outputs) in enumerate(STAGES):
        dense = stride == 16 and index == LAST_STRIDED_STAGE
        blocks = [Block(channels, outputs, kernel, 1 if dense else step, expansion, dilation)]
        if dense:  # the sample points of all later kernels lie twice as far apart now
            dilation = 2
        blocks += [Block(outputs, outputs, kernel, 1, expansion, dilation)] * (repeats - 1)
        stages.append(blocks)
        channels = outputs
    return stages


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return the padding of TensorFlow's SAME along one side, in front and behind: output = ⌈size / stride⌉."""
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2
