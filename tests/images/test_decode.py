import gc
import io
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy
import pytest
from PIL import Image, ImageFile, TiffImagePlugin

from capcli.images import decode as images
from capcli.images.decode import open_square, open_square_and_upright, open_upright, resize_upright, to_pixels
from capcli.results import ImageError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image


def near(pixel: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    # How a camera stores an upright picture whose top is red, for each orientation: red lies where row 0 or column 0
    # of the stored pixels does, as the EXIF standard's table says.
    where = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "left", 7: "right", 8: "right"}[orientation]
    image = Image.new("RGB", (40, 40), BLUE)
    image.paste(
        RED, {"top": (0, 0, 40, 20), "bottom": (0, 20, 40, 40), "left": (0, 0, 20, 40), "right": (20, 0, 40, 40)}[where]
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    square = open_square(tmp_path / "photo.jpg", 32)
    assert near(square.getpixel((16, 4)), RED)
    assert near(square.getpixel((16, 28)), BLUE)


def test_mirrored_orientations_differ_from_turned_ones(tmp_path: Path) -> None:
    for orientation, left in ((1, RED), (2, BLUE)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        halves().save(tmp_path / "photo.png", exif=exif)
        assert near(open_square(tmp_path / "photo.png", 32).getpixel((4, 16)), left)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "YCbCr", "I;16", "F", "RGBA", "PA", "I"])
def test_every_mode_keeps_light_and_dark(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (40, 20), 255)
    grey.paste(0, (0, 0, 20, 20))
    if mode == "I;16":
        image = Image.frombytes("I;16", (40, 20), b"".join((v * 257).to_bytes(2, "little") for v in grey.tobytes()))
    elif mode == "I":
        image = grey.convert("I").point(lambda v: v * 257)
    elif mode == "PA":
        image = grey.convert("P").convert("PA")
    else:
        image = grey.convert(mode)
    square = open_square(image, 32)
    assert square.mode == "RGB"
    assert near(square.getpixel((4, 16)), (0, 0, 0))
    assert near(square.getpixel((28, 16)), WHITE)


def test_sixteen_bit_greys_keep_their_tones(tmp_path: Path) -> None:
    values = [0, 16384, 32768, 49152, 65535]
    image = Image.frombytes("I;16", (5, 1), b"".join(v.to_bytes(2, "little") for v in values)).resize((500, 100), 0)
    image.save(tmp_path / "grey.png")
    square = open_square(tmp_path / "grey.png", 50)
    assert [square.getpixel((x, 25))[0] for x in (5, 15, 25, 35, 45)] == pytest.approx(
        [v // 256 for v in values], abs=2
    )


def test_transparency_becomes_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 10, 20))
    image.save(tmp_path / "a.png")
    image.quantize().save(tmp_path / "palette.png")
    for name in ("a.png", "palette.png"):
        square = open_square(tmp_path / name, 32)
        assert near(square.getpixel((4, 16)), BLUE)
        assert near(square.getpixel((28, 16)), WHITE)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, WHITE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert near(open_square(tmp_path / "a.gif", 8).getpixel((4, 4)), RED)


def test_large_jpegs_look_the_same_as_decoded_whole(tmp_path: Path) -> None:
    picture = Image.radial_gradient("L").resize((1600, 1200)).convert("RGB")
    picture.save(tmp_path / "large.jpg", quality=95)
    square = open_square(tmp_path / "large.jpg", 64)
    whole = Image.open(tmp_path / "large.jpg").convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)
    difference = max(abs(a - b) for a, b in zip(square.tobytes(), whole.tobytes(), strict=True))
    assert difference <= 4


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "the file is empty"),
        ("text.jpg", b"this is no picture", "not an image in a format that can be read"),
        ("cut.jpg", None, "truncated"),
    ],
)
def test_unreadable_files_say_why(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is None:
        buffer = io.BytesIO()
        Image.radial_gradient("L").save(buffer, "JPEG")
        content = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        open_square(tmp_path / name, 32)
    assert caught.value.path == str(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ImageError, match="-: standard input is closed"):
        open_square("-", 32)


@pytest.mark.parametrize("name", ["a.eps", "a.jpg"])
def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(subprocess, "check_call", run)
    halves().save(tmp_path / name, "EPS")
    with pytest.raises(ImageError, match="PostScript files are programs, and are not run"):
        open_square(tmp_path / name, 32)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_missing_folders_and_bombs_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="no such file"):
        open_square(tmp_path / "absent.jpg", 32)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageError, match="is a directory"):
        open_square(tmp_path / "folder.jpg", 32)
    halves().save(tmp_path / "big.png")
    monkeypatch.setattr("capcli.images.decode.MAX_PIXELS", 799)
    with pytest.raises(ImageError, match="40×20 pixels, more than the limit"):
        open_square(tmp_path / "big.png", 32)


def test_pixels_are_rows_of_colours() -> None:
    pixels = to_pixels(halves((4, 2)))
    assert pixels.shape == (2, 4, 3)
    assert pixels.dtype == numpy.uint8
    assert pixels[0, 0].tolist() == list(RED)
    assert pixels[1, 3].tolist() == list(BLUE)
    pixels[:] = 0  # an array of its own


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="whoever runs this may read everything")
def test_files_that_may_not_be_read(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(ImageError, match=r"a\.png: permission denied"):
        open_square(tmp_path / "a.png", 32)


@pytest.mark.parametrize("size", [(1, 1), (20000, 10), (10, 20000), (1, 3000)])
def test_odd_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", size, RED).save(tmp_path / name)
        assert near(open_square(tmp_path / name, 32).getpixel((16, 16)), RED)


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "CMYK", "I;16", "F"])
def test_large_images_are_converted_piece_by_piece(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    image = Image.radial_gradient("L").resize((701, 503))
    if mode == "RGBA":
        alpha = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).point(lambda v: 255 if v > 90 else v)
        image = image.convert("RGB")
        image.putalpha(alpha)
    elif mode == "I;16":
        image = Image.frombytes("I;16", image.size, b"".join((v * 257).to_bytes(2, "little") for v in image.tobytes()))
    else:
        image = image.convert(mode)
    whole = resize_upright(image, lambda *_: (24, 24))
    monkeypatch.setattr(images, "TILE", 100)
    pieces = resize_upright(image, lambda *_: (24, 24))
    difference = max(abs(a - b) for a, b in zip(whole.tobytes(), pieces.tobytes(), strict=True))
    assert difference <= (6 if mode == "F" else 2)


@pytest.mark.parametrize("tile", [2048, 20])
@pytest.mark.parametrize("empty", [numpy.nan, numpy.inf, -numpy.inf, -3.4028234663852886e38, -3.4e38, -9999])
def test_pixels_without_a_value_do_not_scale_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: float, tile: int
) -> None:
    monkeypatch.setattr(images, "TILE", tile)
    heights = numpy.linspace(0.2, 0.8, 64 * 64, dtype=numpy.float32).reshape(64, 64)
    whole = to_pixels(open_square(Image.fromarray(heights), 32)).astype(int)
    heights[0, 0] = empty
    said = TiffImagePlugin.ImageFileDirectory_v2()
    said[42113] = f"{empty}\0"  # as GDAL does
    Image.fromarray(heights).save(tmp_path / "a.tif", tiffinfo=said)
    holed = to_pixels(open_square(tmp_path / "a.tif", 32)).astype(int)
    assert abs(holed - whole)[2:].max() <= 1
    assert open_square(Image.new("F", (9, 9), numpy.nan), 32).getpixel((16, 16)) == (0, 0, 0)


def test_wrong_endings_do_not_matter(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.jpg", "PNG")
    assert near(open_square(tmp_path / "a.jpg", 32).getpixel((4, 16)), RED)


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.from_pillow(halves((64, 64))).save(tmp_path / "a.heic")
    assert near(open_square(tmp_path / "a.heic", 32).getpixel((4, 16)), RED, 30)


def test_heic_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match=r"HEIC needs an extra package: .* pillow-heif$"):
        open_square(tmp_path / "a.heic", 32)


class Unseekable(io.RawIOBase):
    """A file like a socket: it is read once, from the beginning on."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def read(self, size: int = -1) -> bytes:
        taken, self.rest = self.rest, b""
        return taken

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation


def read_to_the_end(path: Path) -> BinaryIO:
    file = io.BytesIO(path.read_bytes())
    file.read()
    return file


def in_an_archive(path: Path) -> BinaryIO:
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, path.name)
    return zipfile.ZipFile(path.with_suffix(".zip")).open(path.name)  # type: ignore[return-value]


SOURCES: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: path.read_bytes(),
    "memory": lambda path: io.BytesIO(path.read_bytes()),
    "read already": read_to_the_end,
    "file": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "stream": lambda path: Unseekable(path.read_bytes()),
    "archive": in_an_archive,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_bytes_and_files_are_images_as_their_paths_are(tmp_path: Path, kind: str) -> None:
    """With the same reduced decoding, orientation, limits and formats."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.radial_gradient("L").resize((1600, 1200)).save(tmp_path / "a.jpg", exif=exif)
    Image.radial_gradient("L").save(tmp_path / "b.png")
    for name in ("a.jpg", "b.png"):
        path = tmp_path / name
        assert open_square(SOURCES[kind](path), 64).tobytes() == open_square(path, 64).tobytes()
        assert open_upright(SOURCES[kind](path), 100).tobytes() == open_upright(path, 100).tobytes()
    with pytest.raises(ImageError, match="1600×1200 pixels, more than the limit of 100,000"):
        open_square(SOURCES[kind](tmp_path / "a.jpg"), 64, 100_000)
    for name, content, reason in (("c.jpg", b"", "the file is empty"), ("d.jpg", b"no picture", "not an image")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=reason):
            open_square(SOURCES[kind](tmp_path / name), 64)


def test_files_keep_their_names_in_errors(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with (tmp_path / "bad.jpg").open("rb") as file, pytest.raises(ImageError) as caught:
        open_square(file, 32)
    assert caught.value.path == str(tmp_path / "bad.jpg")
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ImageError, match=r"^image: I/O operation on closed file"):
        open_square(closed, 32)
    with os.fdopen(os.open(tmp_path / "bad.jpg", os.O_RDONLY), "rb") as nameless, pytest.raises(ImageError) as caught:
        open_square(nameless, 32)
    assert caught.value.path == "image"


def test_what_is_no_image_is_refused_with_what_to_pass(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with (tmp_path / "a.jpg").open() as text, pytest.raises(TypeError, match="open it with mode 'rb'"):
        open_square(text, 32)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pass PIL\.Image\.fromarray\(array\), in RGB"):
        open_square(numpy.zeros((8, 8, 3), "uint8"), 32)  # type: ignore[arg-type]
    for thing in (None, 5, ["a.jpg"], bytearray(b"x")):
        with pytest.raises(TypeError, match=f"a Pillow image, not {type(thing).__name__}"):
            open_square(thing, 32)  # type: ignore[arg-type]


def test_memory_is_claimed_before_pixels_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.radial_gradient("L").resize((800, 600)).convert("RGB")
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "baseline.jpg")
    picture.save(tmp_path / "progressive.jpg", progressive=True)
    claims, load = [], ImageFile.ImageFile.load

    def watched(self: ImageFile.ImageFile) -> object:
        claims.append(images.decoding_memory.total - images.decoding_memory.free)
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    for name, claim in (
        ("a.png", 7 * 800 * 600),
        ("baseline.jpg", 4 * 200 * 150),  # decoded at a quarter of its size
        ("progressive.jpg", 2 * 3 * 800 * 600 + 4 * 200 * 150),
    ):
        claims.clear()
        open_square(tmp_path / name, 32)
        assert set(claims) == {claim}
        assert images.decoding_memory.free == images.decoding_memory.total


def test_large_pictures_are_decoded_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (300, 300), RED).save(tmp_path / "a.png")
    inside, most, claim = 0, 0, images.decoding_memory.claim

    @contextmanager
    def counted(size: int) -> Iterator[None]:
        nonlocal inside, most
        with claim(size):
            inside += 1
            most = max(most, inside)
            yield
            inside -= 1

    monkeypatch.setattr(images.decoding_memory, "total", 400_000)  # less than one needs
    monkeypatch.setattr(images.decoding_memory, "free", 400_000)
    monkeypatch.setattr(images.decoding_memory, "claim", counted)
    with ThreadPoolExecutor(8) as pool:
        assert all(
            near(s.getpixel((5, 5)), RED) for s in pool.map(lambda _: open_square(tmp_path / "a.png", 32), range(40))
        )
    assert most == 1


def blp(size: tuple[int, int], content: bytes) -> bytes:
    """A BLP file of one picture, an index a pixel, with a palette of reds."""
    header = b"BLP2" + struct.pack("<ibbbbII", 1, 1, 0, 0, 0, *size)
    offsets = struct.pack("<16I", 20 + 128 + 1024, *[0] * 15) + struct.pack("<16I", len(content), *[0] * 15)
    return header + offsets + b"".join(bytes((0, 0, i, 0)) for i in range(256)) + content


def test_sizes_that_a_file_cannot_hold_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert near(open_square(blp((40, 20), b"\xff" * 800), 32).getpixel((16, 16)), RED)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(ImageError, match="cut short: file too small for 9000×9000 pixels"):
        open_square(blp((9000, 9000), bytes(800)), 32)


def test_errors_keep_no_pixels(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.radial_gradient("L").save(content, "PNG")
    kept = []
    for data in (content.getvalue()[:5000], blp((40, 20), bytes(300))):
        with pytest.raises(ImageError) as caught:
            open_square(data, 32)
        kept.append(caught.value)
    assert [error.__context__ for error in kept] == [None, None]
    left = [thing for thing in gc.get_objects() if issubclass(type(thing), ImageFile.ImageFile)]
    for image in left:
        with pytest.raises(ValueError, match="closed image"):
            _ = image.im.size


def icon(inside: bytes) -> bytes:
    """A Windows icon that says it is 16×16 pixels, with a PNG inside."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inside), 22) + inside


@pytest.mark.filterwarnings("ignore:Image was not the expected size")
def test_every_thread_has_its_own_limit_of_pixels(tmp_path: Path) -> None:
    """Also for pictures inside others, and Pillow's limit, which is the whole process's, stays as it was."""
    before = Image.MAX_IMAGE_PIXELS
    png = io.BytesIO()
    Image.new("RGB", (30, 30), RED).save(png, "PNG")
    files = [png.getvalue(), icon(png.getvalue())]

    def outcome(job: int) -> str:
        try:
            open_square(files[job % 2], 32, 899 + job // 2 % 2)
        except ImageError as error:
            return error.reason
        return "read"

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(outcome, range(600)))
    assert set(found[0::4] + found[1::4]) == {"30×30 pixels, more than the limit of 899"}
    assert set(found[2::4] + found[3::4]) == {"read"}
    assert before == Image.MAX_IMAGE_PIXELS


def test_one_lazy_pillow_image_for_many_threads(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.linear_gradient("L").resize((900, 700))
    picture.save(tmp_path / "a.png", exif=exif)
    expected = open_square(tmp_path / "a.png", 32).tobytes()
    for _ in range(20):
        with Image.open(tmp_path / "a.png") as image, ThreadPoolExecutor(8) as pool:
            assert {s.tobytes() for s in pool.map(lambda _, i=image: open_square(i, 32), range(8))} == {expected}


def test_heic_is_read_without_registering_it(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    content = io.BytesIO()
    heif.from_pillow(halves((64, 64))).save(content)
    before = list(Image.ID)
    assert near(open_square(content, 32).getpixel((4, 16)), RED, 30)
    assert before == Image.ID


@pytest.mark.parametrize("longest_side", [100, 192, 500])
def test_a_square_is_the_same_with_an_upright_picture_beside_it(tmp_path: Path, longest_side: int) -> None:
    picture = Image.effect_noise((1300, 900), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    picture.save(tmp_path / "b.png")
    for path in (tmp_path / "a.jpg", tmp_path / "b.png"):
        with path.open("rb") as file:
            for source in (path, path.read_bytes(), file, Image.open(path)):
                square, upright = open_square_and_upright(source, 64, longest_side)
                alone = open_square(Image.open(path) if isinstance(source, Image.Image) else path, 64)
                assert square.tobytes() == alone.tobytes()
                assert max(upright.size) == longest_side
                assert (upright.height > upright.width) == (path.suffix == ".jpg")
                assert near(upright.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)), (128, 128, 128), 30)
    with pytest.raises(ImageError, match="more than the limit of 1,000"):
        open_square_and_upright(tmp_path / "a.jpg", 64, longest_side, 1_000)
