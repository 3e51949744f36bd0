"""What a program may set for its whole process, which the command line owns; a library's process is its host's."""

from __future__ import annotations

import ctypes
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


def own_process(max_pixels: int | None = None) -> None:
    """Set up a process that does nothing but caption: its memory, and Pillow's limit and warnings.

    max_pixels: as `Captioner.stream` takes it (None: MAX_PIXELS); here the limit is set for pictures inside others
    (icons) as well, of which the outer header says nothing.
    """
    from PIL import Image

    keep_freed_memory()
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    Image.MAX_IMAGE_PIXELS = -(-limit // 2)  # Pillow refuses above twice this number
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # about files that get their line of ours


def one_core_per_batch(captioner: Captioner, options: DecodingOptions) -> None:
    """Let PyTorch have one thread, and a captioner on a CPU as many workers as there were.

    A network as small as this one is fastest so: many cores on one batch wait for each other after every layer. Where
    the options draw at random, which is done in one order, all is left as it is.
    """
    import torch

    if captioner.device == "cpu" and not options.draws:
        captioner.workers = torch.get_num_threads()
        torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Stop glibc from mapping every large tensor anew.

    A network's layers allocate and free the same few large tensors again and again; by default each of them is mapped
    afresh, and the system zeroes its pages: with that, the encoder runs at half its speed on a CPU. All threads share
    one arena, or each would keep what its largest picture took. Does nothing where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, TOP_PAD_BYTES)
