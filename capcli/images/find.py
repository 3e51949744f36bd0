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

CHUNK = 1 << 16  # bytes of a list that are read at once, at most

# Raw files' endings, and those Pillow can decode, without its stubs for scientific and video formats.
SUFFIXES = ENDINGS | frozenset(
    ".apng .avif .avifs .blp .bmp .bw .cur .dcx .dds .dib .eps .fit .fits .flc .fli .ftc .ftu .gbr .gif .heic .heics "
    ".heif .heifs .hif .icb .icns .ico .iim .im .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx .mpo .msp .pbm "
    ".pcd .pcx .pfm .pgm .png .pnm .ppm .ps .psd .pxr .qoi .ras .rgb .rgba .sgi .tga .tif .tiff .vda .vst .webp .xbm "
    ".xpm".split()
)

# Kept by NAS boxes and desktops in a person's folders: small copies, deleted photos, earlier states.
SYSTEM_FOLDERS = frozenset(
    "@eadir|@tmp|@recycle|@recently-snapshot|@__thumb|#recycle|#snapshot|$recycle.bin|recycler|lost+found|__macosx|"
    "system volume information".split("|")
)
DRAWN, KEPT_BY_SYSTEM = "drawn by capcli", "a system folder"
# Where photos that a list names are looked for, in this order, beside the list; the names are those of known data sets.
PHOTO_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", ".")


@dataclass(frozen=True)
class Selection:
    """Describe the files to take from folders.

    recursive: whether to enter subfolders.
    include: globs, one of which a file must match; empty takes every image.
    exclude: globs that neither a file nor its folders may match.

    Globs ignore case. One without a slash is matched with names, one with a slash with the path relative to the folder.
    """

    recursive: bool = True
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Return whether to take a file. path: relative to the folder."""
        return not matches(path, self.exclude) and (not self.include or matches(path, self.include))


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a path matches a glob; those without a slash are matched with its last part."""
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
    """Yield the image files that arguments name, lazily: in the arguments' order, and in natural order within each.

    An ImageError replaces a folder that cannot be listed, and an argument that names nothing.

    arguments: files, whatever their ending, folders, globs, and `-` for standard input.
    selection: files to take from folders.
    pass_over: called with the path of each picture or folder left out, and why: DRAWN or KEPT_BY_SYSTEM. Folders given
        as arguments are taken.
    """
    passed_over: set[str] = set()
    for argument in arguments:
        if argument == STANDARD_INPUT or os.path.isfile(argument):
            yield argument
        elif os.path.isdir(argument):
            yield from walk(argument, selection, pass_over)
        else:
            # Pipes, devices and dangling links are passed on: opening them gives the right error.
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
                elif "**" not in argument:  # with ** the glob itself matches the folder's files
                    yield from walk(match, selection, pass_over)


def check_arguments(arguments: Iterable[str]) -> list[str]:
    """Return the arguments that neither exist nor match as globs."""
    return [
        a
        for a in arguments
        if a != STANDARD_INPUT and not os.path.lexists(a) and next(glob.iglob(a, recursive=True), None) is None
    ]


def system_folder_of(path: str) -> str:
    """Return the part of a path up to the first of SYSTEM_FOLDERS; empty if there is none."""
    parts = path.replace(os.sep, "/").split("/")
    ends = [i for i, part in enumerate(parts, 1) if part.casefold() in SYSTEM_FOLDERS]
    return "/".join(parts[: ends[0]]) if ends else ""


def is_image(name: str) -> bool:
    """Return whether a file's ending is an image's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def walk(
    folder: str,
    selection: Selection = EVERYTHING,
    pass_over: Callable[[str, str], object] = ignore,
    wanted: Callable[[str], bool] = is_image,
) -> Iterator[str | ImageError]:
    """Yield a folder's image files, or others, and its subfolders': files first, in natural order.

    Hidden names, links to folders (which may form a loop), SYSTEM_FOLDERS and capcli's own pictures are left out. An
    ImageError replaces a folder that cannot be listed.

    selection, pass_over: see `find_images`.
    wanted: whether to yield a file of this name.
    """
    folders = [(folder, "")]  # with paths relative to the first
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
            drawn |= drawn_pictures(folder)  # again: this run may have drawn there since
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
    """Return whether an entry is a folder, not a link to one."""
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:  # deleted meanwhile, on a file system that lists no types
        return False


def is_file_or_dangling(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file or a dangling link, which deserves an error; pipes and devices are not."""
    try:
        return entry.is_file() or not os.path.exists(entry.path)
    except OSError:  # a link to itself
        return True


def read_names(source: str) -> Iterator[str | ImageError]:
    """Yield a list's file names, as soon as they can be read.

    Names end with a line end or, if the list begins so, with NUL, as from `find -print0`. Empty names are skipped, as
    is a UTF-8 byte order mark before the first line. An ImageError replaces an impossible name, and a list in UTF-16.

    source: file of the list, `-` for standard input; names may be any bytes.

    Raises OSError if the list cannot be read.
    """
    with open(
        sys.stdin.fileno() if source == STANDARD_INPUT else source, "rb", closefd=source != STANDARD_INPUT
    ) as file:
        beginning = b""
        while not {*b"\0\n"} & {*beginning} and (chunk := file.read1(CHUNK)):
            beginning += chunk
        if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            yield ImageError(source, "is in UTF-16; save it in UTF-8")
            return
        has_nul = b"\0" in beginning  # which no name holds
        for number, name in enumerate(split_list(beginning, file, b"\0" if has_nul else b"\n")):
            if not has_nul:  # as some editors and shells write text
                name = name.removeprefix(b"" if number else codecs.BOM_UTF8).removesuffix(b"\r")
            if name:
                yield parse_name(os.fsdecode(name))


def split_list(beginning: bytes, file: BufferedReader, end: bytes) -> Iterator[bytes]:
    """Yield a file's parts between separators, and the rest.

    beginning: already read from the file.
    end: the separator, one byte.
    """
    rest, chunk = b"", beginning
    # read1 returns what a pipe has so far, so work begins before the list is complete.
    while chunk:
        *parts, rest = (rest + chunk).split(end)
        yield from parts
        chunk = file.read1(CHUNK)
    yield rest


def parse_name(name: str) -> str | ImageError:
    """Return a list's file name, or an error for an impossible one."""
    if name == STANDARD_INPUT:  # the list itself may be on standard input
        return ImageError(name, "means stdin, which a list cannot name; ./- is a file called -")
    return ImageError(name.split("\0")[0], "followed by a NUL, which no name holds") if "\0" in name else name


def coco_id(path: str | os.PathLike[str]) -> int | None:
    """Return a COCO photo's id, the number ending its name, or None. Raises nothing."""
    found = re.search(r"[0-9]+$", os.path.splitext(os.path.basename(path))[0])
    return int(found[0]) if found and len(found[0]) < 19 else None


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts photo2 before photo10."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d+)", name)]
