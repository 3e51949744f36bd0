"""Networks of the library timm as encoders, cut after one of their stages or blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from capcli.installing import install_line
from capcli.model.config import ENCODERS, TIMM, EncoderKind, ModelConfig
from capcli.model.encoders import Encoder, Features, make_encoder


class TimmEncoder(Encoder):
    """Encode images with a network of timm's: the grid is a feature map, or a ViT's patch tokens; the vector its mean.

    Source: Wightman 2019, PyTorch Image Models.
    """

    folds = False  # its normalisations may hold an activation, and need not follow the layer that they stand behind

    def __init__(self, name: str, stride: int, facts: dict[str, Any]) -> None:
        """Make a freshly initialised encoder. name, stride, facts: as in ModelConfig. Raises ValueError."""
        super().__init__(EncoderKind((stride,), facts["channels"], facts["channels"], whole_cells=True), stride)
        self.name, self.facts = name, facts
        self.network, self.layer = cut_network(name, facts["layer"])

    @property
    def blocks(self) -> list[nn.Module]:
        """Return the parameters of the groups into which timm parts the network, from its input on."""
        from timm.models import group_parameters

        named = dict(self.network.named_parameters())
        groups = group_parameters(self.network, self.network.group_matcher(coarse=True))
        several = [[named[name] for name in groups[key] if name in named] for key in sorted(groups)]
        return [nn.ParameterList(parameters) for parameters in several if parameters]

    def forward(self, pixels: Tensor) -> Features:
        """Return features, with pixels normalised as the network's weights were trained."""
        x = pixels.float() / 255
        x = (x - x.new_tensor(self.facts["mean"]).view(3, 1, 1)) / x.new_tensor(self.facts["std"]).view(3, 1, 1)
        annotations = feature_map(self.network, x.to(next(self.parameters()).dtype), self.layer)
        annotations = annotations.flatten(2).transpose(1, 2)
        return Features(annotations, annotations.mean(1))

    def load_pretrained(self, state: dict[str, Tensor]) -> None:
        """Load a state dict of timm's network; what it has behind the cut is left out."""
        try:
            missing = self.network.load_state_dict(state, strict=False).missing_keys
        except RuntimeError as error:
            raise ValueError(" ".join(str(error).split())) from None
        if missing:
            raise ValueError(f"these are not the weights of {self.name}: no {missing[0]}")


def encoder_of(config: ModelConfig) -> Encoder:
    """Return a freshly initialised encoder of any kind. Raises ValueError where timm or its network is missing."""
    if config.encoder in ENCODERS:
        return make_encoder(config.encoder, config.encoder_stride)
    return TimmEncoder(config.encoder, config.encoder_stride, config.encoder_facts)


def cut_network(name: str, layer: int | None) -> tuple[Any, int]:
    """Return a freshly initialised network without what comes after a layer, and the layer's number.

    name: `timm/NAME`. No other is asked for, since timm would fetch some from the Hub.
    layer: as timm counts feature maps, or a ViT's blocks; negative from the end; None for the last.

    Raises ValueError.
    """
    timm = import_timm(name)
    network: Any = None
    for options in ({"dynamic_img_size": True}, {}):  # ViTs take other sizes than their own only where asked
        try:
            network = timm.create_model(name.removeprefix("timm/"), pretrained=False, num_classes=0, **options)
            break
        except TypeError:
            continue
        except (RuntimeError, ValueError) as failure:
            raise ValueError(f"{name}: {' '.join(str(failure).split())}") from None
    if not hasattr(network, "forward_intermediates") or not hasattr(network, "prune_intermediate_layers"):
        raise ValueError(f"{name}: timm gives out none of its feature maps")
    try:
        (kept,) = network.prune_intermediate_layers([-1 if layer is None else layer], prune_norm=False, prune_head=True)
    except (AssertionError, IndexError, ValueError) as failure:
        raise ValueError(f"{name} has no layer {layer}: {' '.join(str(failure).split())}") from None
    return network, kept


def feature_map(network: Any, pixels: Tensor, layer: int) -> Tensor:
    """Return the feature map of a layer, (batch, channels, rows, columns). pixels: normalised."""
    (found,) = network.forward_intermediates(
        pixels, indices=[layer], norm=True, output_fmt="NCHW", intermediates_only=True
    )
    return found


def timm_config(name: str, layer: int | None, image_size: int | None) -> dict[str, Any]:
    """Return what a ModelConfig needs to know of a network, by name: its facts, stride and image size.

    name, layer: see `cut_network`.
    image_size: in pixels; None takes what timm says of the network's training.

    Raises ValueError for a network, a layer or a size that cannot be taken.
    """
    timm = import_timm(name)
    with torch.device("meta"), torch.no_grad():
        network, kept = cut_network(name, layer)
        told = timm.data.resolve_model_data_config(network)
        own, mean = int(told["input_size"][1]), list(told["mean"])
        side = own if image_size is None else image_size
        try:
            grid = feature_map(network, torch.zeros(1, len(mean), own, own), kept)
            stride = own // grid.shape[2]
            other = feature_map(network, torch.zeros(1, len(mean), side, side), kept)
        except Exception as failure:  # networks check sizes each in its own way
            raise ValueError(f"{name} does not take {side} px: {' '.join(str(failure).split())}") from None
    if len(mean) != 3 or grid.shape[2] != grid.shape[3] or side % stride or other.shape[2] != side // stride:
        raise ValueError(f"{name} gives no square grid at {side} px; its own size is {own}, its stride {stride}")
    facts = {"layer": kept, "channels": int(grid.shape[1]), "mean": mean, "std": list(told["std"])}
    return {"encoder_facts": facts, "encoder_stride": stride, "image_size": side}


def check_network(config: ModelConfig) -> None:
    """Raise ValueError where timm's network is not what a checkpoint tells of it, or is missing."""
    if config.encoder not in ENCODERS:
        found = timm_config(config.encoder, config.encoder_facts["layer"], config.image_size)
        told = (config.encoder_facts["channels"], config.encoder_stride)
        if told != (found["encoder_facts"]["channels"], found["encoder_stride"]):
            raise ValueError(f"timm's network {config.encoder} has other channels or another stride than is told here")


def timm_weights(name: str) -> dict[str, Tensor]:
    """Return a network's pretrained weights from the Hub, or its cache. Raises ValueError and OSError."""
    try:
        network = import_timm(name).create_model(name.removeprefix("timm/"), pretrained=True, num_classes=0)
    except Exception as error:  # timm's, huggingface_hub's, and those of what they open
        raise OSError(f"the weights of {name} cannot be fetched: {' '.join(str(error).split())}") from None
    state: dict[str, Tensor] = network.state_dict()
    return state


def import_timm(name: str) -> Any:
    """Return the library. Raises ValueError where it is not installed, or has no network of this name."""
    try:
        import timm
    except ImportError:
        raise ValueError(f"the encoder {name} needs an extra package: {install_line('timm')}") from None
    if not TIMM.fullmatch(name) or not timm.is_model(name.removeprefix("timm/")):
        raise ValueError(f"timm {timm.__version__} has no network {name.removeprefix('timm/')}")
    return timm
