"""Arguments to image files, image files to upright RGB pixels."""

from __future__ import annotations

import functools
import glob
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

STANDARD_INPUT = "-"
SUFFIXES = frozenset(
    ".apng .avif .bmp .dds .dib .eps .gif .heic .heif .icns .ico .j2k .jfif .jp2 .jpe .jpeg .jpg .jpx .mpo .pbm "
    ".pcx .pgm .png .pnm .ppm .psd .qoi .sgi .tga .tif .tiff .webp .xbm .xpm".split()
)
MAX_PIXELS = 100_000_000
ATTENTION_FILE = "attention.json"  # lies in every folder of overlays that we write
ORIENTATION_TAG = 0x0112
# What undoes each EXIF orientation (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# We count the pixels ourselves before any is decoded, and refuse with a plain sentence.
Image.MAX_IMAGE_PIXELS = None


class ImageError(Exception):
    """An image that cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def find_images(arguments: Iterable[str]) -> Iterator[str]:
    """The image files that files, folders (walked whole), globs and `-` stand for, lazily and in natural order.

    Files named outright are taken whatever their ending. Raises FileNotFoundError for an argument that stands for
    nothing; call `check_arguments` first to know that before any work.
    """
    for argument in arguments:
        if argument == STANDARD_INPUT or os.path.isfile(argument):
            yield argument
        elif os.path.isdir(argument):
            yield from walk(argument)
        else:
            matches = sorted(glob.glob(argument, recursive=True), key=natural)
            if not matches:
                raise FileNotFoundError(argument)
            for match in matches:
                if os.path.isdir(match):
                    yield from walk(match)
                else:
                    yield match


def check_arguments(arguments: Iterable[str]) -> list[str]:
    """Those arguments that neither exist nor match anything as a glob."""
    return [a for a in arguments if a != STANDARD_INPUT and not os.path.exists(a) and next(glob.iglob(a), None) is None]


def walk(folder: str) -> Iterator[str]:
    """Image files under a folder, natural order in each, files before subfolders; hidden names, links to folders and
    folders of attention overlays are passed over."""
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: natural(e.name))
    if any(entry.name == ATTENTION_FILE for entry in visible):
        return
    for entry in visible:
        if entry.is_file() and os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            yield entry.path
    for entry in visible:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which photo2 comes before photo10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]


def open_square(source: str | os.PathLike[str] | Image.Image, size: int) -> Image.Image:
    """An image as the model sees it: first frame, upright, RGB, alpha on white, squashed to size × size pixels.

    Large JPEGs are decoded at a fraction of their size, at least twice `size`. Raises ImageError.
    """
    return open_resized(source, 2 * size, lambda width, height: (size, size))


def open_upright(source: str | os.PathLike[str] | Image.Image, longest_side: int) -> Image.Image:
    """An image as a person sees it: as `open_square`, but in its own shape, no side above longest_side pixels."""

    def fit(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, longest_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    return open_resized(source, longest_side, fit)


def open_resized(
    source: str | os.PathLike[str] | Image.Image, draft: int, fit: Callable[[int, int], tuple[int, int]]
) -> Image.Image:
    """First frame, upright, RGB, resized.

    draft: pixels that both sides keep when a JPEG is decoded at a fraction of its size; fit: stored width and height
    to new ones. Raises ImageError.
    """
    name = "image" if isinstance(source, Image.Image) else os.fspath(source)
    try:
        if isinstance(source, Image.Image):
            return resize_upright(source, fit)
        with Image.open(io.BytesIO(read_standard_input()) if name == STANDARD_INPUT else name) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(name, f"{image.width}×{image.height} pixels, more than the limit of {MAX_PIXELS:,}")
            image.draft(None, (draft, draft))
            return resize_upright(image, fit)
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise ImageError(name, why_unreadable(name, error)) from None


def resize_upright(image: Image.Image, fit: Callable[[int, int], tuple[int, int]]) -> Image.Image:
    """Upright RGB, resized before it is turned: the same picture, and cheap."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF says nothing about the pixels
        orientation = None
    resized = to_rgb(image).resize(fit(*image.size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return resized if turn is None else resized.transpose(turn)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB, transparency on white, 16-bit and floating-point greys scaled to 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit greys, of which convert() would keep the lowest values only
        return image.convert("I").point([i // 256 for i in range(65536)], "L").convert("RGB")
    if image.mode == "F":
        low, high = image.getextrema()
        scale = 255 / (high - low) if high > low else 0  # type: ignore[operator]
        return image.point(lambda value: (value - low) * scale).convert("L").convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


@functools.cache
def read_standard_input() -> bytes:
    """The bytes of an image piped in; kept, since overlays open the image once more."""
    return sys.stdin.buffer.read()


def why_unreadable(name: str, error: Exception) -> str:
    """A plain reason, for a person, why a file could not be decoded."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if name != STANDARD_INPUT and os.path.isfile(name) and os.path.getsize(name) == 0:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a format that can be read"
    return " ".join(str(error).split()) or type(error).__name__


def to_pixels(image: Image.Image) -> Tensor:
    """An RGB image as a uint8 tensor, shape (3, height, width)."""
    import torch

    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1)
