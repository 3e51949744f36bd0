"""Captions photos and shows, word by word, where the model looked."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.checkpoints.caption_model import CaptionModel
    from capcli.checkpoints.store import ModelError
    from capcli.decoding.options import DecodingOptions
    from capcli.results import Candidate, Caption, ImageError

__version__ = "0.1.0"
__all__ = ["Candidate", "Caption", "CaptionModel", "Captioner", "DecodingOptions", "ImageError", "ModelError"]


def __getattr__(name: str) -> Any:
    # On first use, and the light ones first, so that nobody waits for PyTorch who does not need it.
    from importlib import import_module

    for module in ("results", "decoding.options", "checkpoints.store", "captioner", "checkpoints.caption_model"):
        try:
            if name in __all__ and hasattr(found := import_module(f"capcli.{module}"), name):
                return getattr(found, name)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            from capcli.installing import install_line

            raise ImportError(f"{name} needs PyTorch: {install_line('torch')}") from None
    raise AttributeError(f"module 'capcli' has no attribute {name!r}")
