"""C libraries' output on stderr: nothing about files, which our own lines report; all of it in a crash."""

from __future__ import annotations

import contextlib
import faulthandler
import sys


def report_crashes() -> None:
    """Have Python print its stack when a C library crashes."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # no stderr
        faulthandler.enable(sys.stderr, all_threads=False)


def silence_libtiff() -> None:
    """Turn off the messages of Pillow's libtiff in this process.

    No other image library prints errors about files. Redirecting stderr's descriptor would hide crash reports too. On
    Windows libtiff is built into Pillow, its functions cannot be found, and the messages stay.
    """
    import ctypes

    from PIL import Image

    with contextlib.suppress(AttributeError, OSError):
        pillow = ctypes.CDLL(Image.core.__file__)
        pillow.TIFFSetErrorHandler(None)
        pillow.TIFFSetWarningHandler(None)
