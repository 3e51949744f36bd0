"""The number format that a model computes in."""

from __future__ import annotations

from collections.abc import Mapping
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
        native = any(capabilities.get(instruction) for instruction in BF16_INSTRUCTIONS)
    else:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"
