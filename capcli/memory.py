"""Keep freed memory for the next tensor instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Stop glibc from mapping every large tensor anew.

    A network's layers allocate and free the same few large tensors again and again; by default each of them is mapped
    afresh, and the system zeroes its pages: with that, the encoder runs at half its speed on a CPU. Does nothing
    where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, TOP_PAD_BYTES)
