"""Arguments, folders and lists of names become files, in natural order."""

import inspect
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from capcli.images.decode import open_square
from capcli.images.find import (
    ENDINGS,
    KEPT_BY_SYSTEM,
    SUFFIXES,
    Selection,
    check_arguments,
    find_images,
    natural,
    read_names,
    walk,
)
from capcli.results import ImageError


def test_natural_order() -> None:
    assert sorted(["b", "photo10", "Photo2", "a", "2"], key=natural) == ["2", "a", "b", "Photo2", "photo10"]


def test_folders_are_walked_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "b/1.JPG", "a.webp", "notes.txt", ".hidden.png", ".git/x.png", "c/.x/y.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.symlink(tmp_path, tmp_path / "b" / "loop")
    found = [os.path.relpath(path, tmp_path) for path in find_images([str(tmp_path)])]
    assert found == ["a.webp", "b/1.JPG", "b/2.png", "b/10.png"]


def test_arguments_of_every_kind(tmp_path: Path) -> None:
    for name in ("1.png", "2.png", "10.png", "odd.dat"):
        (tmp_path / name).touch()
    pattern, odd = str(tmp_path / "*.png"), str(tmp_path / "odd.dat")
    assert [Path(p).name for p in find_images([pattern])] == ["1.png", "2.png", "10.png"]
    assert list(find_images([odd, "-"])) == [odd, "-"]
    assert check_arguments([pattern, odd, "-", str(tmp_path)]) == []
    assert check_arguments([str(tmp_path / "*.gif"), odd, "absent.jpg"]) == [str(tmp_path / "*.gif"), "absent.jpg"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "3.png").touch()
    deep = str(tmp_path / "a" / "**" / "*.png")
    assert check_arguments([deep]) == []
    assert [Path(p).name for p in find_images([deep])] == ["3.png"]
    assert [Path(p).name for p in find_images([str(tmp_path / "a" / "**")])] == ["3.png"]  # once


def test_every_format_that_pillow_reads_is_found() -> None:
    Image.init()
    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    stubs = {s for s, name in Image.registered_extensions().items() if name in ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")}
    heif = {".heic", ".heics", ".heif", ".heifs", ".hif"}
    assert readable - stubs <= SUFFIXES
    assert heif <= SUFFIXES
    assert SUFFIXES - readable - heif - ENDINGS <= {".mpo", ".avif", ".avifs", ".webp", ".jp2"}  # as Pillow was built


def test_a_selection_narrows_what_a_folder_gives(tmp_path: Path) -> None:
    for name in ("a.JPG", "b.png", "thumbs/a.jpg", "c/thumbs/b.jpg", "c/d.jpg", "c/e/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*selection: object) -> list[str]:
        return [os.path.relpath(p, tmp_path) for p in find_images([str(tmp_path)], Selection(*selection))]  # type: ignore[arg-type]

    assert found() == ["a.JPG", "b.png", "c/d.jpg", "c/e/f.png", "c/thumbs/b.jpg", "thumbs/a.jpg"]
    assert found(False) == ["a.JPG", "b.png"]
    assert found(True, ("*.jpg",)) == ["a.JPG", "c/d.jpg", "c/thumbs/b.jpg", "thumbs/a.jpg"]
    assert found(True, (), ("thumbs/",)) == ["a.JPG", "b.png", "c/d.jpg", "c/e/f.png"]
    assert found(True, (), ("c/thumbs", "B.*")) == ["a.JPG", "c/d.jpg", "c/e/f.png", "thumbs/a.jpg"]
    assert found(True, ("c/*",), ("*.png",)) == ["c/d.jpg", "c/thumbs/b.jpg"]
    # What is named outright is meant.
    assert list(find_images([str(tmp_path / "b.png")], Selection(exclude=("*.png",)))) == [str(tmp_path / "b.png")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names on this system")
def test_links_to_nothing_are_errors_and_pipes_are_passed_over(tmp_path: Path) -> None:
    os.symlink(tmp_path / "gone", tmp_path / "a.jpg")
    os.symlink(tmp_path / "b.jpg", tmp_path / "b.jpg")
    os.mkfifo(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").mkdir()
    found = list(walk(str(tmp_path)))
    assert found == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    with pytest.raises(ImageError, match="no such file"):
        open_square(found[0], 32)
    with pytest.raises(ImageError, match="too many levels of symbolic links"):
        open_square(found[1], 32)
    with pytest.raises(ImageError, match="not a regular file"):
        open_square(tmp_path / "c.jpg", 32)
    assert list(find_images([str(tmp_path / "c.jpg"), found[0]])) == [str(tmp_path / "c.jpg"), found[0]]


@pytest.mark.skipif(os.name != "posix", reason="paths are shorter here")
def test_folders_that_systems_keep_are_passed_over_until_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/b.jpg", "lost+found/c.jpg", "sub/@EADIR/d.jpg"]
    for name in ("a.jpg", ".Trashes/e.jpg", "sub/f.jpg", *names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    passed: list[tuple[str, str]] = []
    everything = {
        ".": [f"./{name}" for name in ("a.jpg", "sub/f.jpg")],
        "**/*.jpg": ["a.jpg", "sub/f.jpg"],
        "*": ["a.jpg", "sub/f.jpg"],
    }
    for argument, found in everything.items():
        passed.clear()
        assert list(find_images([argument], pass_over=lambda *each: passed.append(each))) == found
        folders = {"@eaDir", "#recycle", "lost+found", "sub/@EADIR"}
        assert sorted(path.removeprefix("./") for path, _ in passed) == sorted(folders)
        assert {reason for _, reason in passed} == {KEPT_BY_SYSTEM}
    assert list(find_images(["@eaDir", "sub/@EADIR/*"])) == [names[0], names[3]]


def test_folders_deeper_than_functions_can_call_each_other(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a"] * 300)
    deep.mkdir(parents=True)
    (deep / "x.jpg").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        found = list(walk(str(tmp_path)))
    finally:
        sys.setrecursionlimit(limit)
    assert found == [str(deep / "x.jpg")]


def test_folders_that_cannot_be_listed_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b.jpg").touch()
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("a"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    first, second = walk(str(tmp_path))
    assert first == str(tmp_path / "b.jpg")
    assert isinstance(second, ImageError)
    assert str(second) == f"{tmp_path / 'a'}: permission denied"


def test_lists_of_names(tmp_path: Path) -> None:
    list_file = tmp_path / "list"
    list_file.write_bytes(b"a.jpg\r\n\n b.jpg \nc\xff.jpg")
    assert list(read_names(str(list_file))) == ["a.jpg", " b.jpg ", "c\udcff.jpg"]
    list_file.write_bytes(b"\xef\xbb\xbfa.jpg\r\n\xef\xbb\xbfb.jpg\r\n")  # a byte order mark, as Windows writes it
    assert list(read_names(str(list_file))) == ["a.jpg", "\ufeffb.jpg"]
    for codec in ("utf-16", "utf-16-be"):  # as PowerShell writes it
        list_file.write_bytes("\ufeffa.jpg\r\nb.jpg\r\n".encode(codec).removeprefix(b"\xff\xfe" * (codec == "utf-16")))
        (error,) = read_names(str(list_file))
        assert str(error) == f"{list_file}: is in UTF-16; save it in UTF-8"
    list_file.write_bytes(b"a\n.jpg\0\0b.jpg\r\0")
    assert list(read_names(str(list_file))) == ["a\n.jpg", "b.jpg\r"]
    list_file.write_bytes(b"a.jpg\n" * 20_000 + b"b.jpg\0c.jpg\0d.jpg\ne.jpg")  # damaged far behind its beginning
    *_, second, third = read_names(str(list_file))
    assert third == "e.jpg"
    assert str(second) == "b.jpg: followed by a NUL, which no name holds"
    list_file.write_bytes(b"-\n./-\n")
    first, second = read_names(str(list_file))
    assert (str(first), second) == ("-: means stdin, which a list cannot name; ./- is a file called -", "./-")
    many = [f"photos/{i}.jpg" for i in range(20_000)]  # more than is read at a time
    list_file.write_text("\n".join(many) + "\n")
    assert list(read_names(str(list_file))) == many
