"""What C libraries print on stderr: nothing about files, which our own lines report, but everything when they crash."""

from __future__ import annotations

import contextlib
import faulthandler
import sys


def report_crashes() -> None:
    """Have the interpreter print where it was if a C library crashes, below what the library prints itself."""
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):  # there is no stderr
        faulthandler.enable(sys.stderr, all_threads=False)


def silence_libtiff() -> None:
    """Turn off the messages of Pillow's libtiff, for the whole process.

    It is the only image library that prints on stderr what is wrong with a file. Redirecting stderr's descriptor
    instead would hide the report of a crash as well. If libtiff's functions cannot be found, because Pillow has them
    built in as on Windows, the messages stay.
    """
    import ctypes

    from PIL import Image

    with contextlib.suppress(AttributeError, OSError):
        pillow = ctypes.CDLL(Image.core.__file__)
        pillow.TIFFSetErrorHandler(None)
        pillow.TIFFSetWarningHandler(None)
