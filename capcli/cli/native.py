"""What C libraries say on stderr: nothing about files that get a line of ours, everything when they crash."""

from __future__ import annotations

import contextlib
import faulthandler
import sys


def let_crashes_speak() -> None:
    """Have the interpreter say where it was when a C library crashes, below what the library says itself."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is no stderr
        faulthandler.enable(sys.stderr, all_threads=False)


def silence_libtiff() -> None:
    """Turn off the messages of Pillow's libtiff, for the whole process.

    Of the libraries that decode images it alone prints on stderr what is wrong with a file. Pointing the descriptor
    elsewhere instead would hide the last words of a crash as well. Where Pillow hides libtiff inside itself, as it does
    on Windows, the messages stay.
    """
    import ctypes

    from PIL import Image

    with contextlib.suppress(AttributeError, OSError):
        pillow = ctypes.CDLL(Image.core.__file__)
        pillow.TIFFSetErrorHandler(None)
        pillow.TIFFSetWarningHandler(None)
