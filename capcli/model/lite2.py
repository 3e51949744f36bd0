"""The layers of EfficientNet-Lite2 as a table, which every engine builds the network from; needs no PyTorch.

After Tan & Le 2019 (arXiv:1905.11946) with the changes of TensorFlow's EfficientNet-Lite: no squeeze-and-excitation,
ReLU6, and a stem and a head that are not scaled.
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
    """Describe an inverted residual block: expand channels 1×1, convolve them depthwise k×k, project 1×1.

    inputs, outputs: channels.
    kernel, stride, dilation: of the depthwise convolution, in pixels.
    expansion: how many times as many channels the depthwise convolution has as the input.

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
        """Return whether the input is added to the output.

        A stride of 1 is not enough, as a stage that lost its stride still changes the number of channels.
        """
        return self.stride == 1 and self.inputs == self.outputs


def make_stages(stride: int) -> list[list[Block]]:
    """Return the blocks of each stage.

    stride: of the whole network, 32 or 16. For 16 the last strided stage loses its stride, and the layers after it are
        dilated instead (Yu & Koltun 2016), with the same weights.
    """
    stages, channels, dilation = [], STEM_CHANNELS, 1
    for index, (repeats, kernel, step, expansion, outputs) in enumerate(STAGES):
        dense = stride == 16 and index == LAST_STRIDED_STAGE
        blocks = [Block(channels, outputs, kernel, 1 if dense else step, expansion, dilation)]
        if dense:  # from here on the cells lie twice as close, so a kernel's sample points lie two cells apart
            dilation = 2
        blocks += [Block(outputs, outputs, kernel, 1, expansion, dilation)] * (repeats - 1)
        stages.append(blocks)
        channels = outputs
    return stages


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding along one axis, (before, after), by which the output has ⌈size / stride⌉ pixels.

    size, kernel, stride, dilation: along this axis, in pixels.
    """
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2
