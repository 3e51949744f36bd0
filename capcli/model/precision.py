"""The number format that a model computes in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Instructions that multiply bfloat16 numbers; elsewhere PyTorch converts them one by one, which is slower than float32.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def choose_precision(name: str, device: torch.device) -> str:
    """A name of PRECISIONS. `auto` is bf16 on CPUs and GPUs that multiply bfloat16 themselves, else fp32.

    Raises ValueError for an unknown name, and for fp16 on a CPU.
    """
    if name not in ("auto", *PRECISIONS):
        raise ValueError(f"precision {name!r} is not known; there are auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 is for GPUs; on a CPU take bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cpu":
        # Before PyTorch 2.10 there is no such question.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        # The processor's instructions may be held down (ONEDNN_MAX_CPU_ISA); oneDNN, which multiplies, knows of that.
        allowed: Callable[[], bool] = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
        native = any(capabilities.get(instruction) for instruction in BF16_INSTRUCTIONS) and allowed()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def choose_training_precision(name: str, device: torch.device) -> str:
    """As `choose_precision`, and raises ValueError for fp16 too, in which small gradients become zero."""
    if name == "fp16":
        raise ValueError("precision fp16 is for captioning: small gradients become zero in it; take bf16 or fp32")
    return choose_precision(name, device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Where a model with float32 weights computes in bf16 or fp32, both names of PRECISIONS."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
