"""Files, folders, globs and lists of names to image files, lazily and in natural order."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from capcli.images.decode import STANDARD_INPUT, why_unreadable
from capcli.images.drawn import RECORD, drawn_pictures
from capcli.results import ImageError

# What Pillow can decode by itself; its stubs for scientific and video files are left out.
SUFFIXES = frozenset(
    ".apng .avif .avifs .blp .bmp .bw .cur .dcx .dds .dib .eps .fit .fits .flc .fli .ftc .ftu .gbr .gif .heic .heics "
    ".heif .heifs .hif .icb .icns .ico .iim .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .msp .pbm "
    ".pcd .pcx .pfm .pgm .png .pnm .ppm .ps .psd .pxr .qoi .ras .rgb .rgba .sgi .tga .tif .tiff .vda .vst .webp .xbm "
    ".xpm".split()
)


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
            yield ImageError(folder, why_unreadable(error))
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


def read_names(source: str, null_separated: bool = False) -> Iterator[str | ImageError]:
    """File names from a file (`-`: standard input), one per line or each ended by a NUL as `find -print0` writes them.

    Names are bytes of any kind; empty ones are passed over, and those with a NUL, which no file has, come as their
    ImageError. Raises OSError.
    """
    end = b"\0" if null_separated else b"\n"
    with open(
        sys.stdin.fileno() if source == STANDARD_INPUT else source, "rb", closefd=source != STANDARD_INPUT
    ) as file:
        rest = b""
        # read1 gives what a pipe holds already, so that work begins before the list is complete.
        while chunk := file.read1(1 << 16):
            *names, rest = (rest + chunk).split(end)
            yield from (as_name(name, null_separated) for name in names if trim(name, null_separated))
        if trim(rest, null_separated):
            yield as_name(rest, null_separated)


def as_name(line: bytes, null_separated: bool) -> str | ImageError:
    """A file's name, or an error for what cannot be one."""
    name = os.fsdecode(trim(line, null_separated))
    if name == STANDARD_INPUT:  # which may be what the list is read from
        return ImageError(name, "a list names files; ./- is one called -")
    # Of a list of many names the first will do.
    return ImageError(name.split("\0")[0], "followed by a NUL: --null is for such lists") if "\0" in name else name


def trim(name: bytes, null_separated: bool) -> bytes:
    """A line without the carriage return that Windows puts at its end."""
    return name if null_separated else name.removesuffix(b"\r")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which photo2 comes before photo10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]
