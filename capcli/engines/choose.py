"""Which engine captions; each is imported when it is chosen."""

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
# What the drivers of NVIDIA and AMD, and Windows' for its Linux, make on Linux.
GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def engine_loader(
    engine: str = "auto", device: str = "auto", precision: str = "auto", workers: int = 1
) -> Callable[[Path], Engine]:
    """Return what makes an engine of a checkpoint folder, which raises ModelError for one that cannot be used.

    On a CPU that is ONNX Runtime, in float32: even where the processor multiplies bfloat16 numbers it captions at least
    as fast as PyTorch in bfloat16 (measured with AMX), and it starts in a fraction of the time. PyTorch has GPUs and
    the other number formats.

    engine: one of ENGINES.
    device, precision, workers: as `Captioner.load` takes them.

    Raises ValueError for what is not there or does not go together.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine {engine!r} is not known; there are {', '.join(ENGINES)}")
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
    if onnx_first and chosen.type == "cpu":  # there is a GPU that this PyTorch cannot use
        return load_onnx_or_torch(workers, precision)
    choose_precision(precision, chosen)
    return load_torch(str(chosen), precision)


def load_onnx(workers: int) -> Callable[[Path], Engine]:
    """Return what makes an engine of ONNX Runtime, the cores shared among workers. Raises ValueError without it."""
    if not are_installed("onnx", "onnxruntime"):
        raise ValueError(f"engine onnx needs ONNX Runtime: {install_line('onnx')}")
    from capcli.engines.onnx import OnnxEngine, count_cores

    return lambda folder: OnnxEngine.load(folder, max(1, count_cores() // workers))


def load_torch(device: str, precision: str) -> Callable[[Path], Engine]:
    """Return what makes an engine of PyTorch."""
    from capcli.engines.torch import TorchEngine, choose_device

    return lambda folder: TorchEngine.load(folder, choose_device(device), precision)


def load_onnx_or_torch(workers: int, precision: str) -> Callable[[Path], Engine]:
    """Return what makes an engine of ONNX Runtime, or of PyTorch where a checkpoint's network has no graph."""
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
    """Return whether all of these packages can be imported, without doing so."""
    try:
        return all(find_spec(package) is not None for package in packages)
    except (ImportError, ValueError):  # something keeps one from being found
        return False


def may_have_gpu() -> bool:
    """Return whether PyTorch should be asked for a GPU, which takes seconds."""
    if not are_installed("torch"):
        return False
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    if sys.platform == "win32":
        import ctypes.util

        return ctypes.util.find_library("nvcuda") is not None
    return any(map(os.path.exists, GPU_FILES))
