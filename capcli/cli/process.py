"""Settings of the whole process, for the command line alone: a library leaves them to its program."""

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
    """Set up a process for captioning: memory, and Pillow's limit and warnings.

    max_pixels: refuse larger images; None takes MAX_PIXELS. Unlike `Captioner.stream`'s limit, Pillow's also covers
        pictures inside icons, whose size the icon's header does not give.
    """
    from PIL import Image

    keep_freed_memory()
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    Image.MAX_IMAGE_PIXELS = -(-limit // 2)  # Pillow refuses images with more than twice as many
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # our own lines report what is wrong with a file


def one_core_per_batch(captioner: Captioner, options: DecodingOptions) -> None:
    """Give each batch one thread, and a captioner on a CPU as many workers as a batch had threads.

    Fastest for so small a network: cores sharing a batch wait for each other after every layer. Nothing changes on
    other devices, or if options draw at random, which needs a fixed order.
    """
    if captioner.device != "cpu" or options.draws:
        return
    captioner.workers = captioner.engine.threads
    captioner.engine.threads = 1


def one_thread_each() -> int:
    """Have PyTorch compute with one thread, and return how many it would have taken, for work side by side.

    Threads of one operation wait for each other: one on a core that is busy with something else holds up all.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    return threads


def spare_numpy_threads() -> None:
    """Keep numpy's OpenBLAS from starting threads: unneeded, and half of numpy's import time.

    Only works before numpy's import. Not for PyTorch, whose ARM builds compute with OpenBLAS.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_freed_memory() -> None:
    """Have glibc keep freed memory; does nothing with another C library.

    A network allocates the same few large tensors again and again. By default glibc maps each anew and the system
    zeroes its pages, which halves the encoder's speed on a CPU. Threads share one arena, or each would keep its largest
    image's memory.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, TOP_PAD_BYTES)
