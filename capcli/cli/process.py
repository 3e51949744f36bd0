"""Settings for the whole process, which only the command line makes: a library leaves them to the program it is in."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from typing import TYPE_CHECKING

from capcli.images.decode import MAX_PIXELS

if TYPE_CHECKING:
    from capcli.captioner import Captioner
    from capcli.decoding.options import DecodingOptions

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8
TOP_PAD_BYTES = 64 << 20


def set_up_process(max_pixels: int | None = None) -> None:
    """Set up a process that does nothing but caption: its memory, and Pillow's limit and warnings.

    max_pixels: refuse images with more pixels; None takes MAX_PIXELS. Unlike `Captioner.stream`'s limit, Pillow's
        holds for pictures inside icons as well, whose size the icon's header does not give.
    """
    from PIL import Image

    keep_freed_memory()
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    Image.MAX_IMAGE_PIXELS = -(-limit // 2)  # Pillow refuses images with more than twice as many
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # our own lines report what is wrong with a file


def one_core_per_batch(captioner: Captioner, options: DecodingOptions) -> None:
    """Give each batch a single thread, and a captioner on a CPU as many workers as a batch had threads.

    This is fastest for so small a network, because several cores on one batch wait for each other after every layer.

    captioner: is left as it is if it runs on another device.
    options: if they draw at random, which has to happen in one order, everything is left as it is.
    """
    if captioner.device != "cpu" or options.draws:
        return
    captioner.workers = captioner.engine.threads
    captioner.engine.threads = 1


def leave_busy_cores() -> None:
    """Have PyTorch compute with as many threads as cores are free, or as OMP_NUM_THREADS says.

    Threads of one operation wait for each other: one on a core that is busy with something else holds up all. Not for
    what must give the same numbers when it is resumed, as sums depend a little on the number of threads.
    """
    if "OMP_NUM_THREADS" in os.environ or not hasattr(os, "getloadavg"):
        return
    import torch

    free = (os.cpu_count() or 1) - os.getloadavg()[0]  # the last minute's
    torch.set_num_threads(max(1, min(torch.get_num_threads(), round(free))))


def spare_numpy_threads() -> None:
    """Keep numpy's OpenBLAS from starting threads, which take half of the time of numpy's import and are not needed.

    Has no effect once numpy has been imported. Not for PyTorch, whose builds for ARM compute with OpenBLAS too.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_freed_memory() -> None:
    """Have glibc keep memory that is freed; does nothing if the C library is not glibc.

    The layers of a network allocate and free the same few large tensors again and again. By default glibc maps each of
    them anew, and the system fills its pages with zeros, which halves the encoder's speed on a CPU. All threads share
    one arena, because otherwise each would keep as much memory as its largest image took.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, TOP_PAD_BYTES)
