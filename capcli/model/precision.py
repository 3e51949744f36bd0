"""Number formats to compute in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# CPU features that multiply bfloat16 natively. Without one PyTorch converts the numbers, slower than float32.
BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def choose_precision(name: str, device: torch.device) -> str:
    """Return the number format to compute in, one of PRECISIONS.

    name: one of PRECISIONS, or `auto`: bf16 where the device multiplies it natively, else fp32.

    Raises ValueError for an unknown name, and for fp16 on a CPU.
    """
    if name not in ("auto", *PRECISIONS):
        raise ValueError(f"precision {name!r} is not known; there are auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise ValueError("precision fp16 is for GPUs; on a CPU take bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cpu":
        # PyTorch has this function from 2.10; before, auto is fp32 on every CPU.
        capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        # ONEDNN_MAX_CPU_ISA can forbid what the CPU can do, and only oneDNN, which multiplies, knows.
        allowed: Callable[[], bool] = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
        native = any(capabilities.get(instruction) for instruction in BF16_INSTRUCTIONS) and allowed()
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def choose_training_precision(name: str, device: torch.device) -> str:
    """Return the number format to train in: as `choose_precision`, but never fp16.

    Raises ValueError for an unknown name, and for fp16, in which small gradients become zero.
    """
    if name == "fp16":
        raise ValueError("precision fp16 is for captioning: small gradients become zero in it; take bf16 or fp32")
    return choose_precision(name, device)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return a context in which float32 weights compute in another number format.

    precision: bf16, or fp32, which changes nothing.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
