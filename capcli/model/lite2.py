"""EfficientNet-Lite2's layers as a table, for every engine; needs no PyTorch.

After Tan & Le 2019 (arXiv:1905.11946) with the changes of TensorFlow's EfficientNet-Lite: no squeeze-and-excitation,
ReLU6, and unscaled stem and head.
"""

from __future__ import annotations

from typing import NamedTuple

# (repeats, kernel, stride, expansion, output channels) of each stage: B0's, scaled by width 1.1 and depth 1.2.
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
    """Describe an inverted residual block: expand channels 1×1, convolve depthwise k×k, project 1×1.

    inputs, outputs: channels.
    kernel, stride, dilation: of the depthwise convolution, in pixels.
    expansion: its channels over the input's.

    Source: Sandler et al. 2018 §3.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expansion: int
    dilation: int

    @property
    def is_residual(self) -> bool:
        """Return whether the input is added to the output."""
        # A stride of 1 is not enough: a stage that lost its stride still changes the channels.
        return self.stride == 1 and self.inputs == self.outputs


def make_stages(stride: int) -> list[list[Block]]:
    """Return each stage's blocks.

    stride: of the network, 32 or 16. For 16 the last strided stage loses its stride, and later layers are dilated (Yu &
        Koltun 2016), with the same weights.
    """
    stages, channels, dilation = [], STEM_CHANNELS, 1
    for index, (repeats, kernel, step, expansion, outputs) in enumerate(STAGES):
        dense = stride == 16 and index == LAST_STRIDED_STAGE
        blocks = [Block(channels, outputs, kernel, 1 if dense else step, expansion, dilation)]
        if dense:  # from here on cells are twice as dense, so a kernel's sample points are two cells apart
            dilation = 2
        blocks += [Block(outputs, outputs, kernel, 1, expansion, dilation)] * (repeats - 1)
        stages.append(blocks)
        channels = outputs
    return stages


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding along an axis, (before, after), for ⌈size / stride⌉ output pixels.

    size, kernel, stride, dilation: in pixels.
    """
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2
