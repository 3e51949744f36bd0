"""Decoding files, bytes and open images to upright RGB pixels, within a pixel limit and a memory budget."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import math
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from capcli.images.budget import Budget
from capcli.images.raw import ORIENTATION_TAG, is_raw, open_preview
from capcli.installing import install_line
from capcli.results import ImageError

if TYPE_CHECKING:
    import numpy as np

STANDARD_INPUT = "-"
MAX_PIXELS = 100_000_000
TOO_LARGE = "more than the limit of {:,}"
# Peak memory of decoding, in bytes per pixel, measured with 24 megapixels in Pillow 13. Other formats take 2 to 7, PNG
# and TIFF with transparency the most.
BYTES_PER_PIXEL = {"JPEG2000": 20, "WEBP": 17, "BLP": 16, "AVIF": 10, "HEIF": 8, "JPEG": 4, "MPO": 4}
BYTES_PER_PIXEL_OF_OTHERS = 7
decoding_memory = Budget(750_000_000)  # for all threads of the process
TILE = 2048  # side in pixels of the tiles in which large images are converted
ICONS = (b"\0\0\1\0", b"icns")  # first bytes: Pillow decodes the one on opening, and the other may claim to be small
REDUCING_GAP = 3  # box-filter down to this many times the wanted size, then resize: Pillow's own recommendation
# The transposition that undoes each EXIF orientation (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
NO_VALUE = 1e38  # programs write ±3.4e38, about the greatest float, for a pixel without a value
GDAL_NODATA = 42113  # the TIFF tag with, in ASCII, the value that stands for none
HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})  # ISO/IEC 23008-12
# A Pillow image is not thread-safe, and a caller may pass the same one several times.
pillow_image_lock = threading.Lock()
# Anything to caption: a path, an encoded image as bytes, an open binary file, or a decoded image.
Source = str | os.PathLike[str] | bytes | BinaryIO | Image.Image
# Takes an image's stored width and height, and returns the wanted ones, in pixels.
Fit = Callable[[int, int], tuple[int, int]]


def open_square(source: Source, size: int, max_pixels: int | None = None) -> Image.Image:
    """Return an image as the model sees it: first frame, upright, RGB, transparency on white, squashed to a square.

    Large JPEGs are decoded at a fraction of their size, but at least three times the square's.

    size: side of the square, in pixels.
    max_pixels: refuse images that claim more before decoding; None takes MAX_PIXELS.

    Raises ImageError for an unreadable image, and TypeError for anything that is not a Source.
    """
    return open_resized(source, REDUCING_GAP * size, [square(size)], max_pixels)[0]


def open_square_and_upright(
    source: Source, size: int, longest_side: int, max_pixels: int | None = None
) -> tuple[Image.Image, Image.Image | None]:
    """Return an image as `open_square` and, if wanted, `open_upright` do, decoded once if possible.

    size, longest_side: of the square and the upright picture, in pixels; a longest_side of 0 wants none.
    max_pixels: see `open_square`.

    Raises errors as `open_square` does.
    """
    if not longest_side:
        return open_square(source, size, max_pixels), None
    if longest_side > REDUCING_GAP * size:
        if hasattr(source, "read"):
            source = read_whole(source)  # type: ignore[arg-type]
        return open_square(source, size, max_pixels), open_upright(source, longest_side)
    shapes = [square(size), within(longest_side)]
    both = open_resized(source, REDUCING_GAP * size, shapes, max_pixels)
    return both[0], both[1]


def open_upright(source: Source, longest_side: int) -> Image.Image:
    """Return an image as a person sees it: like `open_square`, but in its own shape, and without our pixel limit.

    longest_side: of the result, in pixels; smaller images keep their size.

    Raises errors as `open_square` does.
    """
    # Without a limit: an image above MAX_PIXELS, captioned on request, must be viewable too.
    return open_resized(source, longest_side, [within(longest_side)], sys.maxsize)[0]


def square(size: int) -> Fit:
    """Return a fit that squashes images to a square."""
    return lambda width, height: (size, size)


def within(longest_side: int) -> Fit:
    """Return a fit that shrinks larger images until no side is longer than this."""

    def fit(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, longest_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    return fit


def open_resized(source: Source, draft: int, fits: Sequence[Fit], max_pixels: int | None = None) -> list[Image.Image]:
    """Return an image's first frame, upright and RGB, in several sizes.

    draft: pixels per side to keep, at least, in decoding a JPEG at a fraction of its size.
    fits: the sizes.
    max_pixels: see `open_square`.

    Raises errors as `open_square` does.
    """
    check_source(source)
    name = name_of(source)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    try:
        if isinstance(source, Image.Image):
            with pillow_image_lock:
                source.load()
                orientation_of(source)  # has Pillow parse the EXIF now, under the lock, and cache it
            return [resize_upright(source, fit) for fit in fits]
        with open_file(source) as file, open_image(file, name) as image:
            check_size(image, name, limit)
            check_content(image, name, file)
            needed = memory_needed(image, (draft, draft))
            # The image is closed, freeing its pixels, before the memory is given back.
            with decoding_memory.claim(needed), contextlib.closing(image):
                image.load()
                check_size(image, name, limit)  # again: an icon's true size is known only after decoding
                return [resize_upright(image, fit) for fit in fits]
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, Image.MAX_IMAGE_PIXELS
        pixels, most = map(int, re.findall(r"\d+", str(error)))
        kind = TOO_LARGE.format(min(most, limit))
        reason = f"{pixels:,} pixels, {kind}"
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        kind = reason = why_unreadable(error)
    # Raised outside the handler: as context, the original error's frames would keep the decoded pixels alive.
    raise ImageError(name, reason, kind)


def memory_needed_to_open(image: bytes, size: int, max_pixels: int | None = None) -> int:
    """Return `open_square`'s peak memory in bytes, by the image's head; 0 if unreadable.

    image: encoded.
    size, max_pixels: see `open_square`.

    Raises ImageError for an image refused by its head alone.
    """
    name, limit = name_of(image), MAX_PIXELS if max_pixels is None else max_pixels
    if image.startswith(ICONS):  # which may hold anything
        return limit * BYTES_PER_PIXEL_OF_OTHERS
    try:
        with open_file(image) as file, open_image(file, name) as opened:
            check_size(opened, name, limit)
            return memory_needed(opened, (REDUCING_GAP * size, REDUCING_GAP * size))
    except ImageError:
        raise
    except Exception:  # damaged: decoding will say more
        return 0


def check_source(source: object) -> None:
    """Raise TypeError, saying what to pass instead, for anything that is not a Source."""
    if isinstance(source, io.TextIOBase):
        raise TypeError("this file is open as text; open it with mode 'rb'")
    if is_source(source):
        return
    if hasattr(source, "__array__"):
        raise TypeError("an array does not say what its numbers mean; pass PIL.Image.fromarray(array), in RGB")
    raise TypeError(f"an image is a path, encoded bytes, a binary file or a Pillow image, not {type(source).__name__}")


def is_source(thing: object) -> bool:
    """Return whether something can be a single image, not a collection."""
    return isinstance(thing, (str, os.PathLike, bytes, Image.Image)) or hasattr(thing, "read")


def name_of(source: Source) -> str:
    """Return an image's name in results and errors: its path, its file's name, or else `image`."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "image"


def read_whole(file: BinaryIO) -> BinaryIO:
    """Return a copy of an open file in memory, so that the caller may read on or close it.

    file: rewound first if possible; the copy has its name.

    Raises ImageError for an unreadable file.
    """
    try:
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            file.seek(0)
        copy = io.BytesIO(file.read())
    except Exception as error:  # a caller's file object may raise anything
        raise ImageError(name_of(file), why_unreadable(error)) from None
    copy.name = name_of(file)
    return copy


def check_size(image: Image.Image, name: str, limit: int) -> None:
    """Raise ImageError for more pixels than the limit. name: for the message."""
    if image.width * image.height > limit:
        kind = TOO_LARGE.format(limit)
        raise ImageError(name, f"{image.width}×{image.height} pixels, {kind}", kind)


def check_content(image: Image.Image, name: str, file: BinaryIO) -> None:
    """Raise ImageError for what must not be decoded: PostScript, and a BLP file too short for its pixels.

    image: opened, not yet loaded.
    name: for the message.
    file: that the image was opened from.
    """
    # PostScript is a program: Pillow would have Ghostscript run it, however long it takes, and print to our output. On
    # a short BLP file Pillow would spend the memory, and minutes, before failing.
    if image.format == "EPS":
        raise ImageError(name, "PostScript files are programs, and are not run")
    if image.format != "BLP":
        return
    compression, pixels = image.tile[0][3][0], image.width * image.height  # type: ignore[attr-defined]
    # Compression 0 is JPEG; with any other a pixel takes at least half a byte.
    if compression and 2 * file.seek(0, io.SEEK_END) < pixels:
        raise ImageError(name, f"cut short: file too small for {image.width}×{image.height} pixels", "cut short")


def memory_needed(image: Image.Image, draft: tuple[int, int]) -> int:
    """Return decoding's peak memory in bytes, after asking the decoder for a reduced size if it has one.

    image: opened, not yet loaded.
    draft: width and height to keep, at least, in pixels.
    """
    # A progressive JPEG's coefficients, two bytes each, all stay in memory until its last scan is read.
    kept = 2 * len(image.getbands()) * image.width * image.height if "progressive" in image.info else 0
    image.draft(None, draft)
    return kept + image.width * image.height * BYTES_PER_PIXEL.get(image.format or "", BYTES_PER_PIXEL_OF_OTHERS)


def open_file(source: str | os.PathLike[str] | bytes | BinaryIO) -> BinaryIO:
    """Return an open file to decode; `-` and the shell's `<(…)` are read into memory.

    Raises OSError, and ImageError for a pipe or a device.
    """
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
    raise ImageError(name, "not a regular file")  # opening a pipe without a writer would wait for ever


def open_image(file: BinaryIO, name: str) -> Image.Image:
    """Open an image with Pillow, HEIC with the `heif` extra, or a raw file's preview with `raw`.

    Raises ImageError, and whatever Pillow raises.
    """
    if not file.read(1):
        raise ImageError(name, "the file is empty")
    if is_raw(name):
        return open_preview(file, name)
    try:
        return Image.open(file)
    except Image.UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in HEIF_BRANDS:
            raise
    try:
        from pillow_heif import HeifImageFile  # not registered with Pillow, which would affect the whole process
    except ImportError:
        raise ImageError(name, f"HEIC needs an extra package: {install_line('heif')}") from None
    file.seek(0)
    return HeifImageFile(file)


def holds_image(path: str | os.PathLike[str]) -> bool:
    """Return whether a file holds an image, whatever its name. path: of a non-empty file. Raises OSError."""
    with open(path, "rb") as file:
        try:
            open_image(file, "").close()
        except Image.UnidentifiedImageError:
            return False
        except Exception:  # too large, damaged, or in need of an extra package
            return True
    return True


def resize_upright(image: Image.Image, fit: Fit) -> Image.Image:
    """Return an image upright, RGB and resized; turned last, which is cheaper."""
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
    """Return the orientation in an image's EXIF, unchecked, or None."""
    try:
        return image.getexif().get(ORIENTATION_TAG)
    except Exception:  # pixels may be fine with damaged EXIF
        return None


def reduce_by_tiles(image: Image.Image, columns: int, rows: int) -> Image.Image:
    """Return a large image as RGB, each pixel the mean of columns × rows, never converting the whole."""
    image.load()
    scale = range_of(image) if image.mode == "F" else None  # the whole image's, unknown to a tile
    small = Image.new("RGB", (-(-image.width // columns), -(-image.height // rows)))
    width, height = columns * max(1, TILE // columns), rows * max(1, TILE // rows)
    for top in range(0, image.height, height):
        for left in range(0, image.width, width):
            tile = image.crop((left, top, min(left + width, image.width), min(top + height, image.height)))
            small.paste(to_rgb(tile, scale).reduce((columns, rows)), (left // columns, top // rows))
    return small


def is_plain(image: Image.Image) -> bool:
    """Return whether an image is RGB without a transparent colour."""
    return image.mode == "RGB" and "transparency" not in image.info


def to_rgb(image: Image.Image, scale: tuple[float, float] | None = None) -> Image.Image:
    """Return an image of any Pillow mode as RGB: transparency on white, 16-bit and floating-point greys as 8 bits.

    scale: floating-point greys for black and white; None takes the image's darkest and brightest.
    """
    if is_plain(image):
        return image
    if image.mode.startswith("I"):  # 16-bit greys, which convert() would clip at 255 instead of scaling them
        return image.convert("I").point([i // 256 for i in range(65536)], "L").convert("RGB")
    if image.mode == "F":
        import numpy as np

        low, high = scale or range_of(image)
        lightness = (np.asarray(image, np.float64) - low) * (255 / (high - low) if high > low else 0)
        grey = np.nan_to_num(lightness, posinf=255, neginf=0).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def range_of(image: Image.Image) -> tuple[float, float]:
    """Return the least and greatest value of an image of mode F, except pixels without a value.

    These are NaN, infinite, beyond ±NO_VALUE, or named by a TIFF.
    """
    import numpy as np

    empty = np.float32(np.nan)
    with contextlib.suppress(AttributeError, LookupError, TypeError, ValueError):
        empty = np.float32(image.tag_v2[GDAL_NODATA].strip("\0 "))  # type: ignore[attr-defined]
    low, high = math.inf, -math.inf
    for top in range(0, image.height, TILE):
        values = np.asarray(image.crop((0, top, image.width, min(top + TILE, image.height))))
        values = values[(np.abs(values) < NO_VALUE) & (values != empty)]  # NaN is not below it
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low < high else (0.0, 0.0)


@functools.cache
def read_standard_input() -> bytes:
    """Return the piped image; cached, since overlays open it again."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer.read()


def why_unreadable(error: Exception) -> str:
    """Say in plain words why an image could not be read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image in a format that can be read"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    return " ".join(str(error).split()) or type(error).__name__


def to_pixels(image: Image.Image) -> np.ndarray:
    """Return an RGB image as a new array, (height, width, 3) uint8."""
    import numpy as np

    return np.array(image)
