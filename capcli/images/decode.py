"""Files, bytes and open images to upright RGB pixels, within limits and a budget of memory."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image, ImageFile

from capcli.images.budget import Budget
from capcli.results import ImageError

if TYPE_CHECKING:
    from torch import Tensor

STANDARD_INPUT = "-"
MAX_PIXELS = 100_000_000
TOO_LARGE = "more than the limit of {:,}"
# What decoding takes at its highest, in bytes per pixel, measured with 24 megapixels in Pillow 13. What is not listed
# takes 2 to 7: PNG and TIFF with transparency the most.
BYTES_PER_PIXEL = {"JPEG2000": 20, "WEBP": 17, "BLP": 16, "AVIF": 10, "HEIF": 8, "JPEG": 4, "MPO": 4}
BYTES_OF_OTHERS = 7
decoding = Budget(750_000_000)  # for all threads of the process together
TILE = 2048  # pixels; the side of the tiles in which large images are converted
REDUCING_GAP = 3  # box-filter down to this many times the wanted size, then resize: Pillow's own recommendation
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
HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})  # ISO/IEC 23008-12
# Pillow's images are not made for two threads at once, and a caller may give the same one to several.
given = threading.Lock()
# What a caption can be made of: a path, an encoded image, an open binary file, or a decoded image.
Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image


def open_square(source: Source, size: int, max_pixels: int | None = None) -> Image.Image:
    """Return an image as the model sees it: first frame, upright, RGB, alpha on white, squashed to size × size pixels.

    Large JPEGs are decoded at a fraction of their size, at least three times `size`. max_pixels: images that say they
    have more are refused unread (None: MAX_PIXELS). Raises ImageError, and TypeError for what is no Source.
    """
    return open_resized(source, REDUCING_GAP * size, lambda width, height: (size, size), max_pixels)


def open_upright(source: Source, longest_side: int) -> Image.Image:
    """Return an image as a person sees it: as `open_square` but in its own shape, no side above longest_side pixels."""

    def fit(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, longest_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    # Whoever asked for a caption of an image above MAX_PIXELS may look at it too.
    return open_resized(source, longest_side, fit, sys.maxsize)


def open_resized(
    source: Source, draft: int, fit: Callable[[int, int], tuple[int, int]], max_pixels: int | None = None
) -> Image.Image:
    """Return the first frame, upright, RGB, resized.

    draft: pixels that both sides keep when a JPEG is decoded at a fraction of its size; fit: stored width and height
    to new ones. Raises ImageError and TypeError.
    """
    check_source(source)
    name = name_of(source)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        if isinstance(source, Image.Image):
            with given:
                source.load()
                orientation_of(source)  # Pillow keeps what it finds
            return resize_upright(source, fit)
        with open_file(source) as file, open_image(file, name) as image:
            check_size(image, name, limit)
            check_content(image, name, file)
            needed = memory_needed(image, (draft, draft))
            # Closed while the memory is still claimed: this lets go of the pixels.
            with decoding.claim(needed), contextlib.closing(image):
                image.load()
                check_size(image, name, limit)  # of an icon only the picture inside knows it
                return resize_upright(image, fit)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, Image.MAX_IMAGE_PIXELS
        pixels, most = map(int, re.findall(r"\d+", str(error)))
        kind = TOO_LARGE.format(min(most, limit))
        reason = f"{pixels:,} pixels, {kind}"
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        kind = reason = why_unreadable(error)
    # Not from within the handler: the error's frames would keep what was decoded for as long as this one is kept.
    raise ImageError(name, reason, kind)


def check_source(source: object) -> None:
    """Raise TypeError, which says what to pass instead, for what is no Source."""
    if isinstance(source, io.TextIOBase):
        raise TypeError("this file is open as text; open it with mode 'rb'")
    if is_source(source):
        return
    if hasattr(source, "__array__"):
        raise TypeError("an array does not say what its numbers mean; pass PIL.Image.fromarray(array), in RGB")
    raise TypeError(f"an image is a path, encoded bytes, a binary file or a Pillow image, not {type(source).__name__}")


def is_source(thing: object) -> bool:
    """Return whether it can stand for one image."""
    return isinstance(thing, (str, os.PathLike, bytes, Image.Image)) or hasattr(thing, "read")


def name_of(source: Source) -> str:
    """Return what results and errors call an image: its path, its file's name, or else `image`."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "image"


def read_whole(file: BinaryIO) -> BinaryIO:
    """Return a file's content in memory, from its beginning where it can be rewound, under its name.

    Nothing is shared with whoever reads or closes the file then. Raises ImageError.
    """
    try:
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            file.seek(0)
        copy = io.BytesIO(file.read())
    except Exception as error:  # anything may be behind it
        raise ImageError(name_of(file), why_unreadable(error)) from None
    copy.name = name_of(file)
    return copy


def check_size(image: Image.Image, name: str, limit: int) -> None:
    """Raise ImageError for an image of more pixels than the limit."""
    if image.width * image.height > limit:
        kind = TOO_LARGE.format(limit)
        raise ImageError(name, f"{image.width}×{image.height} pixels, {kind}", kind)


def check_content(image: ImageFile.ImageFile, name: str, file: BinaryIO) -> None:
    """Raise ImageError for what is not to be decoded: PostScript and a BLP file too short for the pixels it claims.

    PostScript is a program: Pillow has Ghostscript run it, for as long as it likes, and lets it print on our output.
    For the short BLP file Pillow would take the memory, and minutes, before it failed; compressed otherwise than as
    JPEG (0) a pixel takes half a byte at least.
    """
    if image.format == "EPS":
        raise ImageError(name, "PostScript is a program, and is not run")
    if image.format != "BLP":
        return
    compression, pixels = image.tile[0][3][0], image.width * image.height  # type: ignore[index]
    if compression and 2 * file.seek(0, io.SEEK_END) < pixels:
        raise ImageError(name, f"cut short: too small a file for {image.width}×{image.height} pixels", "cut short")


def memory_needed(image: Image.Image, draft: tuple[int, int]) -> int:
    """Return how many bytes decoding will take at its highest, after asking for no larger an image than is needed.

    draft: pixels that width and height keep at least where the format can be decoded at reduced size.
    """
    # Of a progressive JPEG all coefficients are kept, two bytes each, until the last scan has been read.
    kept = 2 * len(image.getbands()) * image.width * image.height if "progressive" in image.info else 0
    image.draft(None, draft)
    return kept + image.width * image.height * BYTES_PER_PIXEL.get(image.format or "", BYTES_OF_OTHERS)


def open_file(source: str | os.PathLike[str] | bytes | BinaryIO) -> BinaryIO:
    """A file to decode; what the shell's `<(…)` and `-` stand for is read whole. Raises OSError, ImageError."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, (str, os.PathLike)):
        return read_whole(source)
    name = os.fspath(source)
    if name == STANDARD_INPUT:
        return io.BytesIO(read_standard_input())
    mode = os.stat(name).st_mode
    if stat.S_ISREG(mode):
        return open(name, "rb")
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if name == "/dev/stdin" or name.startswith(("/dev/fd/", "/proc/self/fd/")):
        with open(name, "rb") as pipe:
            return io.BytesIO(pipe.read())
    raise ImageError(name, "not a regular file")  # opening a pipe that nobody writes to would wait for ever


def open_image(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    """Image.open, and HEIC where the `heif` extra is installed."""
    if not file.read(1):
        raise ImageError(name, "the file is empty")
    try:
        return Image.open(file)
    except Image.UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in HEIF_BRANDS:
            raise
    try:
        from pillow_heif import HeifImageFile  # not registered with Pillow, which is the whole process's
    except ImportError:
        raise ImageError(name, "HEIC needs an extra package: pip install 'capcli[heif]'") from None
    file.seek(0)
    return HeifImageFile(file)


def resize_upright(image: Image.Image, fit: Callable[[int, int], tuple[int, int]]) -> Image.Image:
    """Upright RGB, resized before it is turned: the same picture, and cheap."""
    orientation = orientation_of(image)
    size = fit(*image.size)
    box = (0.0, 0.0, float(image.width), float(image.height))
    if image.width * image.height > TILE * TILE and not is_plain(image):
        columns, rows = (max(1, old // (REDUCING_GAP * new)) for old, new in zip(image.size, size, strict=True))
        box = (0.0, 0.0, image.width / columns, image.height / rows)
        rgb = reduce_by_tiles(image, columns, rows)
    else:
        rgb = to_rgb(image)
    resized = rgb.resize(size, Image.Resampling.BICUBIC, box, REDUCING_GAP)
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return resized if turn is None else resized.transpose(turn)


def orientation_of(image: Image.Image) -> object:
    """What its EXIF says; None where there is none."""
    try:
        return image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF says nothing about the pixels
        return None


def reduce_by_tiles(image: Image.Image, columns: int, rows: int) -> Image.Image:
    """A large image as RGB, each pixel the mean of columns × rows, without a converted copy of the whole in memory."""
    if image.mode == "F":  # its brightest and darkest value are the whole image's
        return to_rgb(image.reduce((columns, rows)))
    image.load()
    small = Image.new("RGB", (-(-image.width // columns), -(-image.height // rows)))
    width, height = columns * max(1, TILE // columns), rows * max(1, TILE // rows)
    for top in range(0, image.height, height):
        for left in range(0, image.width, width):
            tile = image.crop((left, top, min(left + width, image.width), min(top + height, image.height)))
            small.paste(to_rgb(tile).reduce((columns, rows)), (left // columns, top // rows))
    return small


def is_plain(image: Image.Image) -> bool:
    """Whether it is RGB without a transparent colour."""
    return image.mode == "RGB" and "transparency" not in image.info


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB, transparency on white, 16-bit and floating-point greys scaled to 8 bits."""
    if is_plain(image):
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
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer.read()


def why_unreadable(error: Exception) -> str:
    """A plain reason, for a person, why a file could not be decoded."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a format that can be read"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return " ".join(str(error).split()) or type(error).__name__


def to_pixels(image: Image.Image) -> Tensor:
    """An RGB image as a uint8 tensor, shape (3, height, width)."""
    import torch

    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).permute(2, 0, 1)
