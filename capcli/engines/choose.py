"""The choice of engine; each is imported once chosen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from capcli.installing import install_line

if TYPE_CHECKING:
    from capcli.engines.engine import Engine

INSTALL_TORCH = install_line("torch")
ENGINES = ("auto", "onnx", "torch")
# Files made on Linux by the drivers of NVIDIA and AMD, and by Windows' for its Linux.
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def engine_loader(
    engine: str = "auto", device: str = "auto", precision: str = "auto", workers: int = 1
) -> Callable[[Path], Engine]:
    """Return a function from checkpoint folder to engine, which raises ModelError for an unusable one.

    engine: one of ENGINES.
    device, precision, workers: see `Captioner.load`.

    Raises ValueError for what is missing or does not go together.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; there are {', '.join(ENGINES)}")
    # A CPU gets ONNX Runtime in float32: even with native bfloat16 it is at least as fast as PyTorch in bfloat16
    # (measured with AMX), and starts in a fraction of the time.
    plain = device in ("auto", "cpu") and precision in ("auto", "fp32")
    if engine == "onnx" and not plain:
        raise ValueError("engine onnx runs on a CPU in fp32; for other devices and precisions take torch")
    if engine == "onnx":
        return load_onnx(workers)
    onnx_first = engine == "auto" and plain and are_installed("onnx", "onnxruntime")
    if onnx_first and (device == "cpu" or not may_have_gpu()):
        return load_onnx_or_torch(workers, precision)
    if not are_installed("torch"):
        asked = "engine torch" if plain else f"device {device}" if precision == "auto" else f"precision {precision}"
        raise ValueError(f"{asked} needs PyTorch: {INSTALL_TORCH}")
    from capcli.engines.torch import choose_device
    from capcli.model.precision import choose_precision

    chosen = choose_device(device)
    if onnx_first and chosen.type == "cpu":  # this PyTorch cannot use the GPU
        return load_onnx_or_torch(workers, precision)
    choose_precision(precision, chosen)
    return load_torch(str(chosen), precision)


def load_onnx(workers: int) -> Callable[[Path], Engine]:
    """Return a loader for ONNX Runtime, with cores shared among workers. Raises ValueError without it."""
    if not are_installed("onnx", "onnxruntime"):
        raise ValueError(f"engine onnx needs ONNX Runtime: {install_line('onnx')}")
    from capcli.engines.onnx import OnnxEngine, count_cores

    return lambda folder: OnnxEngine.load(folder, max(1, count_cores() // workers))


def load_torch(device: str, precision: str) -> Callable[[Path], Engine]:
    """Return a loader for PyTorch."""
    from capcli.engines.torch import TorchEngine, choose_device

    return lambda folder: TorchEngine.load(folder, choose_device(device), precision)


def load_onnx_or_torch(workers: int, precision: str) -> Callable[[Path], Engine]:
    """Return a loader for ONNX Runtime, or PyTorch for networks without a graph."""
    from capcli.engines.graph import NoGraph

    load = load_onnx(workers)

    def load_either(folder: Path) -> Engine:
        try:
            return load(folder)
        except NoGraph as error:
            if not are_installed("torch"):
                raise ValueError(f"{error}, which is not installed: {INSTALL_TORCH}") from None
        return load_torch("cpu", precision)(folder)

    return load_either


def are_installed(*packages: str) -> bool:
    """Return whether all packages could be imported, without importing them."""
    try:
        return all(find_spec(package) is not None for package in packages)
    except (ImportError, ValueError):  # one cannot be looked for
        return False


def may_have_gpu() -> bool:
    """Return whether to ask PyTorch for a GPU, which takes seconds."""
    if not are_installed("torch"):
        return False
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    if sys.platform == "win32":
        import ctypes.util

        return ctypes.util.find_library("nvcuda") is not None
    return any(map(os.path.exists, GPU_FILES))
