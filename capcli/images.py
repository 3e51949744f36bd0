"""Arguments to image files, image files to upright RGB pixels."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import functools
import glob
import io
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from capcli.overlay_files import RECORD, drawn_pictures

if TYPE_CHECKING:
    from torch import Tensor

STANDARD_INPUT = "-"
# What Pillow can decode by itself; its stubs for scientific and video files are left out.
SUFFIXES = frozenset(
    ".apng .avif .avifs .blp .bmp .bw .cur .dcx .dds .dib .eps .fit .fits .flc .fli .ftc .ftu .gbr .gif .heic .heics "
    ".heif .heifs .hif .icb .icns .ico .iim .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .msp .pbm "
    ".pcd .pcx .pfm .pgm .png .pnm .ppm .ps .psd .pxr .qoi .ras .rgb .rgba .sgi .tga .tif .tiff .vda .vst .webp .xbm "
    ".xpm".split()
)
MAX_PIXELS = 100_000_000
LARGE_PIXELS = 16_000_000  # images above this are decoded one at a time, or as many as there are threads would add up
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
one_large = threading.Lock()


class ImageError(Exception):
    """An image that cannot be read, or for which something else cannot be done.

    reason: for its line and its row; kind: the reason without what differs from image to image, for the summary.
    """

    def __init__(self, path: str, reason: str, kind: str | None = None) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.kind = kind or reason


@dataclass(frozen=True)
class Selection:
    """Which files of the folders are meant.

    include, exclude: globs, upper and lower case alike. One without a slash is held against names, one with a slash
    against the path below the folder. An excluded folder is not entered; only files have to be included.
    """

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether a file at this path below the folder is meant."""
        return not matches(path, self.exclude) and (not self.include or matches(path, self.include))


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a path, or its last part where the pattern has no slash, matches any of the globs."""
    path = path.replace(os.sep, "/").casefold()
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern)
        for pattern in (p.casefold().rstrip("/") for p in patterns)
    )


EVERYTHING = Selection()


def ignore(path: str) -> None:
    """Whom nothing need be told."""


def find_images(
    arguments: Iterable[str], selection: Selection = EVERYTHING, pass_over: Callable[[str], object] = ignore
) -> Iterator[str | ImageError]:
    """The image files that files, folders, globs and `-` stand for, lazily and in natural order; what cannot be
    listed, or stands for nothing, comes as its ImageError.

    Files named outright are taken whatever their ending. pass_over: is told of pictures in folders that are left out
    because capcli drew them.
    """
    for argument in arguments:
        if argument == STANDARD_INPUT or os.path.isfile(argument):
            yield argument
        elif os.path.isdir(argument):
            yield from walk(argument, selection, pass_over)
        else:
            # A file that is no regular one stands for itself, and opening it will say what it is.
            found = sorted(glob.glob(argument, recursive=True), key=natural) or [argument] * os.path.lexists(argument)
            if not found:
                yield ImageError(argument, "no such file or folder")
            for match in found:
                if not os.path.isdir(match):
                    yield match
                elif "**" not in argument:  # which matches what is in the folder too
                    yield from walk(match, selection, pass_over)


def check_arguments(arguments: Iterable[str]) -> list[str]:
    """Those arguments that neither exist nor match anything as a glob."""
    return [
        a
        for a in arguments
        if a != STANDARD_INPUT and not os.path.lexists(a) and next(glob.iglob(a, recursive=True), None) is None
    ]


def walk(
    folder: str, selection: Selection = EVERYTHING, pass_over: Callable[[str], object] = ignore
) -> Iterator[str | ImageError]:
    """Image files under a folder, natural order in each, files before subfolders; hidden names, overlays that capcli
    drew and links to folders are passed over, so that a link can make no loop.

    pass_over: is told of the overlays.
    """
    folders = [(folder, "")]  # and their paths from the folder that the selection speaks of
    while folders:
        folder, below = folders.pop()
        drawn = drawn_pictures(folder)
        try:
            with os.scandir(folder) as entries:
                visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: natural(e.name))
        except OSError as error:
            yield ImageError(folder, why_unreadable(folder, error))
            continue
        if any(entry.name == RECORD for entry in visible):
            drawn |= drawn_pictures(folder)  # once more, as this very run may be drawing there
        for entry in visible:
            if (
                os.path.splitext(entry.name)[1].lower() in SUFFIXES
                and is_file_or_dangling(entry)
                and selection.takes(os.path.join(below, entry.name))
            ):
                if entry.name in drawn:
                    pass_over(entry.path)
                else:
                    yield entry.path
        for entry in reversed(visible) if selection.recursive else ():
            path = os.path.join(below, entry.name)
            if is_folder(entry) and not matches(path, selection.exclude):
                folders.append((entry.path, path))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder itself, and not a link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # it went meanwhile, on a system whose listings do not say what things are
        return False


def is_file_or_dangling(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a link to nothing, which is worth an error; pipes and devices are neither."""
    try:
        return entry.is_file() or not os.path.exists(entry.path)
    except OSError:  # a link to itself
        return True


def read_names(source: str, null_separated: bool = False) -> Iterator[str]:
    """File names from a file (`-`: standard input), one per line or each ended by a NUL as `find -print0` writes them.

    Names are bytes of any kind; empty ones are passed over. Raises OSError.
    """
    end = b"\0" if null_separated else b"\n"
    with open(
        sys.stdin.fileno() if source == STANDARD_INPUT else source, "rb", closefd=source != STANDARD_INPUT
    ) as file:
        rest = b""
        # read1 gives what a pipe holds already, so that work begins before the list is complete.
        while chunk := file.read1(1 << 16):
            *names, rest = (rest + chunk).split(end)
            yield from (os.fsdecode(trim(name, null_separated)) for name in names if trim(name, null_separated))
        if trim(rest, null_separated):
            yield os.fsdecode(trim(rest, null_separated))


def trim(name: bytes, null_separated: bool) -> bytes:
    """A line without the carriage return that Windows puts at its end."""
    return name if null_separated else name.removesuffix(b"\r")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which photo2 comes before photo10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]


def open_square(source: str | os.PathLike[str] | Image.Image, size: int, max_pixels: int | None = None) -> Image.Image:
    """An image as the model sees it: first frame, upright, RGB, alpha on white, squashed to size × size pixels.

    Large JPEGs are decoded at a fraction of their size, at least three times `size`. max_pixels: images that say they
    have more are refused unread (None: MAX_PIXELS). Raises ImageError.
    """
    return open_resized(source, REDUCING_GAP * size, lambda width, height: (size, size), max_pixels)


def open_upright(source: str | os.PathLike[str] | Image.Image, longest_side: int) -> Image.Image:
    """An image as a person sees it: as `open_square`, but in its own shape, no side above longest_side pixels."""

    def fit(width: int, height: int) -> tuple[int, int]:
        scale = min(1.0, longest_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    # Whoever asked for a caption of an image above MAX_PIXELS may look at it too.
    return open_resized(source, longest_side, fit, sys.maxsize)


def open_resized(
    source: str | os.PathLike[str] | Image.Image,
    draft: int,
    fit: Callable[[int, int], tuple[int, int]],
    max_pixels: int | None = None,
) -> Image.Image:
    """First frame, upright, RGB, resized.

    draft: pixels that both sides keep when a JPEG is decoded at a fraction of its size; fit: stored width and height
    to new ones. Raises ImageError.
    """
    name = "image" if isinstance(source, Image.Image) else os.fspath(source)
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    # Pillow's own guard, for images inside others (icons), of which the outer header says nothing: it raises at twice
    # this number. Sizes that we can see are refused below with a plain sentence.
    Image.MAX_IMAGE_PIXELS = limit
    try:
        if isinstance(source, Image.Image):
            return resize_upright(source, fit)
        with open_file(name) as file, open_image(file, name) as image:
            if image.width * image.height > limit:
                raise ImageError(name, f"{image.width}×{image.height} pixels, more than the limit of {limit:,}")
            image.draft(None, (draft, draft))
            large = image.width * image.height > LARGE_PIXELS
            with one_large if large else contextlib.nullcontext():
                return resize_upright(image, fit)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        raise ImageError(name, f"{pixels:,} pixels, more than the limit of {limit:,}") from None
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise ImageError(name, why_unreadable(name, error)) from None


def open_file(name: str) -> BinaryIO:
    """A file to decode; what the shell's `<(…)` and `-` stand for is read whole. Raises OSError, ImageError."""
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


def open_image(file: BinaryIO, name: str) -> Image.Image:
    """Image.open, and HEIC where the `heif` extra is installed."""
    try:
        return Image.open(file)
    except Image.UnidentifiedImageError:
        file.seek(0)
        head = file.read(12)
        if head[4:8] != b"ftyp" or head[8:] not in HEIF_BRANDS:
            raise
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ImageError(name, "HEIC needs an extra package: pip install 'capcli[heif]'") from None
    register_heif_opener()
    file.seek(0)
    return Image.open(file)


def resize_upright(image: Image.Image, fit: Callable[[int, int], tuple[int, int]]) -> Image.Image:
    """Upright RGB, resized before it is turned: the same picture, and cheap."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF says nothing about the pixels
        orientation = None
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
    return sys.stdin.buffer.read()


def why_unreadable(name: str, error: Exception) -> str:
    """A plain reason, for a person, why a file could not be decoded."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if name != STANDARD_INPUT and os.path.isfile(name) and os.path.getsize(name) == 0:
        return "the file is empty"
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
