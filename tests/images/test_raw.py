"""Raw files are captioned from the preview in them. These are made by hand: none that a camera wrote is at hand."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from photo_files import dng
from PIL import Image

from capcli.images.decode import open_square, open_upright
from capcli.images.find import walk
from capcli.outputs.metadata import Metadata
from capcli.outputs.xmp_sidecars import XmpSidecars
from capcli.results import ImageError

RED, BLUE = (200, 30, 30), (30, 30, 200)


def halves(width: int = 640, height: int = 480) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), BLUE)
    image.paste(RED, (0, 0, width // 2, height))
    return image


def near(pixel: object, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.array(pixel) - colour).max() < 20)


@pytest.mark.parametrize(
    ("orientation", "red", "size"), [(1, (4, 16), (64, 48)), (3, (27, 16), (64, 48)), (6, (16, 4), (48, 64))]
)
def test_a_raw_file_is_its_preview_upright(
    tmp_path: Path, orientation: int, red: tuple[int, int], size: tuple[int, int]
) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    path = tmp_path / "a.DNG"
    path.write_bytes(dng(halves(), orientation))
    square = open_square(path, 32)
    assert near(square.getpixel(red), RED)
    assert near(square.getpixel((31 - red[0], 31 - red[1])), BLUE)
    assert open_upright(path, 64).size == size


def test_a_preview_without_compression_is_turned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rawpy = pytest.importorskip("rawpy", reason="rawpy is not installed")

    class Raw:
        """What LibRaw gives of an old camera's file."""

        sizes = SimpleNamespace(flip=6)

        def __enter__(self) -> Raw:
            return self

        def __exit__(self, *_: object) -> None: ...

        def extract_thumb(self) -> object:
            return SimpleNamespace(format=rawpy.ThumbFormat.BITMAP, data=np.asarray(halves(64, 48)))

    monkeypatch.setattr(rawpy, "imread", lambda file: Raw())
    (tmp_path / "a.mrw").write_bytes(b"anything")
    assert near(open_upright(tmp_path / "a.mrw", 64).getpixel((24, 4)), RED)


def test_a_raw_file_without_a_preview_says_so_and_a_tiff_of_its_name_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    for name, content in (("a.dng", dng(halves(), preview=False)), ("b.nef", b"not a photo"), ("c.cr2", b"II*\0")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match="not an image in a format that can be read"):
            open_square(tmp_path / name, 32)
    halves().save(tmp_path / "d.raw", "TIFF")
    assert near(open_square(tmp_path / "d.raw", 32).getpixel((4, 16)), RED)
    (tmp_path / "e.arw").touch()
    with pytest.raises(ImageError, match="the file is empty"):
        open_square(tmp_path / "e.arw", 32)


def test_previews_have_the_limits_of_all_images(tmp_path: Path) -> None:
    pytest.importorskip("rawpy", reason="rawpy is not installed")
    (tmp_path / "a.dng").write_bytes(dng(halves()))
    with pytest.raises(ImageError, match="640×480 pixels, more than the limit of 1,000"):
        open_square(tmp_path / "a.dng", 32, 1000)


def test_without_the_extra_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    (tmp_path / "a.dng").write_bytes(dng(halves()))
    with pytest.raises(ImageError, match=r"raw files need an extra package: .* rawpy$"):
        open_square(tmp_path / "a.dng", 32)


def test_folders_give_raw_files_and_only_their_sidecars_are_written(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.dng"
    path.write_bytes(dng(halves()))
    assert list(walk(str(tmp_path))) == [str(path)]
    assert XmpSidecars().wants(str(path))
    with pytest.raises(ImageError, match="with --xmp they go beside any image"):
        Metadata().wants(str(path))
