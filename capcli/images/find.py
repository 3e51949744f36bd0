"""Finding images: from files, folders, globs and lists of names to image files, lazily and in natural order."""

from __future__ import annotations

import codecs
import fnmatch
import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader

from capcli.images.decode import STANDARD_INPUT, why_unreadable
from capcli.images.drawn import RECORD, drawn_pictures
from capcli.images.raw import ENDINGS
from capcli.results import ImageError

# Those of raw files, and of what Pillow can decode; its stubs for scientific and video formats are left out.
SUFFIXES = ENDINGS | frozenset(
    ".apng .avif .avifs .blp .bmp .bw .cur .dcx .dds .dib .eps .fit .fits .flc .fli .ftc .ftu .gbr .gif .heic .heics "
    ".heif .heifs .hif .icb .icns .ico .iim .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .msp .pbm "
    ".pcd .pcx .pfm .pgm .png .pnm .ppm .ps .psd .pxr .qoi .ras .rgb .rgba .sgi .tga .tif .tiff .vda .vst .webp .xbm "
    ".xpm".split()
)

# What NAS boxes and desktops keep in a person's folders: small copies of the photos, deleted ones, earlier states.
SYSTEM_FOLDERS = frozenset(
    "@eadir|@tmp|@recycle|@recently-snapshot|@__thumb|#recycle|#snapshot|$recycle.bin|recycler|lost+found|__macosx|"
    "system volume information".split("|")
)
DRAWN, KEPT_BY_SYSTEM = "drawn by capcli", "a system folder"


@dataclass(frozen=True)
class Selection:
    """Describe which files in folders to take.

    recursive: whether to enter subfolders.
    include: globs, of which a file has to match one; empty takes every image.
    exclude: globs, of which neither a file nor the folders that it is in may match any.

    Globs ignore case. A glob without a slash is matched with names, one with a slash with the path relative to the
    folder.
    """

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Return whether to take a file. path: relative to the folder."""
        return not matches(path, self.exclude) and (not self.include or matches(path, self.include))


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a path matches any of the globs; those without a slash are matched with its last part."""
    path = path.replace(os.sep, "/").casefold()
    name = path.rpartition("/")[2]
    return any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern)
        for pattern in (p.casefold().rstrip("/") for p in patterns)
    )


EVERYTHING = Selection()


def ignore(path: str, reason: str) -> None:
    """Do nothing: the default for `pass_over`."""


def find_images(
    arguments: Iterable[str], selection: Selection = EVERYTHING, pass_over: Callable[[str, str], object] = ignore
) -> Iterator[str | ImageError]:
    """Yield the image files that arguments stand for, lazily and in natural order.

    An ImageError takes the place of a folder that cannot be listed, and of an argument that stands for nothing.

    arguments: files, which are taken whatever their ending, folders, globs, and `-` for standard input.
    selection: which files in folders to take.
    pass_over: called with the path of each picture in a folder that is left out, or of each folder, and why: DRAWN or
        KEPT_BY_SYSTEM. A folder that is an argument itself is taken.
    """
    passed_over: set[str] = set()
    for argument in arguments:
        if argument == STANDARD_INPUT or os.path.isfile(argument):
            yield argument
        elif os.path.isdir(argument):
            yield from walk(argument, selection, pass_over)
        else:
            # Pipes, devices and dangling links are passed on: the attempt to open them gives the right error.
            found = sorted(glob.glob(argument, recursive=True), key=natural) or [argument] * os.path.lexists(argument)
            if not found:
                yield ImageError(argument, "no such file or folder")
            for match in found:
                if (kept := system_folder_of(match)) and not system_folder_of(argument):
                    if kept not in passed_over:
                        passed_over.add(kept)
                        pass_over(kept, KEPT_BY_SYSTEM)
                elif not os.path.isdir(match):
                    yield match
                elif "**" not in argument:  # with ** the glob itself matches the files in the folder
                    yield from walk(match, selection, pass_over)


def check_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments that neither exist nor match anything as a glob."""
    return [
        a
        for a in arguments
        if a != STANDARD_INPUT and not os.path.lexists(a) and next(glob.iglob(a, recursive=True), None) is None
    ]


def system_folder_of(path: str) -> str:
    """Return which of SYSTEM_FOLDERS a path names or leads through, as a path; empty if none."""
    parts = path.replace(os.sep, "/").split("/")
    ends = [i for i, part in enumerate(parts, 1) if part.casefold() in SYSTEM_FOLDERS]
    return "/".join(parts[: ends[0]]) if ends else ""


def is_image(name: str) -> bool:
    """Return whether a file is an image, by its ending."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def walk(
    folder: str,
    selection: Selection = EVERYTHING,
    pass_over: Callable[[str, str], object] = ignore,
    wanted: Callable[[str], bool] = is_image,
) -> Iterator[str | ImageError]:
    """Yield the image files, or others, in a folder and its subfolders: files first, in natural order.

    Hidden names, links to folders (which may form a loop), SYSTEM_FOLDERS and pictures that capcli drew are left out.
    An ImageError takes the place of a folder that cannot be listed.

    selection, pass_over: see `find_images`.
    wanted: whether a file of this name is one to yield.
    """
    folders = [(folder, "")]  # each with its path relative to the first
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
            drawn |= drawn_pictures(folder)  # again: this very run may have drawn there since
        for entry in visible:
            if wanted(entry.name) and is_file_or_dangling(entry) and selection.takes(os.path.join(below, entry.name)):
                if entry.name in drawn:
                    pass_over(entry.path, DRAWN)
                else:
                    yield entry.path
        for entry in reversed(visible) if selection.recursive else ():
            path = os.path.join(below, entry.name)
            if not is_folder(entry) or matches(path, selection.exclude):
                continue
            if entry.name.casefold() in SYSTEM_FOLDERS:
                pass_over(entry.path, KEPT_BY_SYSTEM)
            else:
                folders.append((entry.path, path))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, and not a link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # deleted meanwhile, on a file system whose listings do not tell folders from files
        return False


def is_file_or_dangling(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file or a dangling link, which deserves an error; pipes and devices are not."""
    try:
        return entry.is_file() or not os.path.exists(entry.path)
    except OSError:  # a link that leads to itself
        return True


def read_names(source: str, null_separated: bool = False) -> Iterator[str | ImageError]:
    """Yield the file names in a list, as soon as they can be read.

    Empty names are skipped, and so is a UTF-8 byte order mark before the first line. An ImageError takes the place of a
    name that no file can have, and of a list in UTF-16.

    source: the file with the list, `-` for standard input; names may be any bytes.
    null_separated: each name ends with a NUL, as `find -print0` writes them, instead of a line end.

    Raises OSError if the list cannot be read.
    """
    end = b"\0" if null_separated else b"\n"
    with open(
        sys.stdin.fileno() if source == STANDARD_INPUT else source, "rb", closefd=source != STANDARD_INPUT
    ) as file:
        for number, name in enumerate(split_list(file, end)):
            if not (number or null_separated) and name.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                yield ImageError(source, "is in UTF-16; save it in UTF-8")
                return
            if not null_separated:  # as some editors and shells write text; NUL-separated names stay as they are
                name = name.removeprefix(b"" if number else codecs.BOM_UTF8).removesuffix(b"\r")
            if name:
                yield parse_name(os.fsdecode(name))


def split_list(file: BufferedReader, end: bytes) -> Iterator[bytes]:
    """Yield the parts of a file that end with a separator, without it, and the rest. end: the separator, one byte."""
    rest = b""
    # read1 returns what a pipe has so far, so that work begins before the list is complete.
    while chunk := file.read1(1 << 16):
        *parts, rest = (rest + chunk).split(end)
        yield from parts
    yield rest


def parse_name(name: str) -> str | ImageError:
    """Return the file name in a list, or an error if no file can have it."""
    if name == STANDARD_INPUT:  # the list itself may be on standard input
        return ImageError(name, "means stdin, which a list cannot name; ./- is a file called -")
    # A whole NUL-separated list looks like one line: its first name is enough for the message.
    return ImageError(name.split("\0")[0], "followed by a NUL; read such lists with --null") if "\0" in name else name


def coco_id(path: str | os.PathLike[str]) -> int | None:
    """Return a COCO photo's id, the number at the end of its name; None if there is none. Raises no error."""
    found = re.search(r"[0-9]+$", os.path.splitext(os.path.basename(path))[0])
    return int(found[0]) if found and len(found[0]) < 19 else None


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key by which photo2 comes before photo10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]
