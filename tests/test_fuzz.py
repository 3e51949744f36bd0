"""Damaged images in eight formats, and damaged metadata: no crash, no hang, no flood of memory, nothing on stdout.

CAPCLI_FULL_TESTS=1 pytest tests/test_fuzz.py runs 2,000 mutations instead of 160.
"""

import io
import multiprocessing
import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import test_iptc
from PIL import Image, features
from test_metadata_texts import commented, two_captions

from capcli.images.decode import open_square
from capcli.outputs.metadata import MetadataError, parse
from capcli.outputs.metadata.fields import Filling
from capcli.results import ImageError

MUTATIONS = 2000 if os.environ.get("CAPCLI_FULL_TESTS") else 160
SECONDS = 10
MEGABYTES = 1000
FORMATS = {
    "JPEG": {"quality": 80},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {},
    "ICO": {"sizes": [(64, 48)]},
    "JPEG2000": {},
}
NEEDS = {"WEBP": "webp", "JPEG2000": "jpg_2000", "TIFF": "libtiff"}


def samples() -> dict[str, bytes]:
    """A picture in each format that this Pillow can write."""
    picture = Image.radial_gradient("L").resize((160, 120)).convert("RGB")
    picture.paste(Image.linear_gradient("L").resize((60, 60)).convert("RGB"), (20, 30))
    found = {}
    for name, options in FORMATS.items():
        if features.check(NEEDS.get(name, "zlib")):
            buffer = io.BytesIO()
            picture.save(buffer, name, **options)
            found[name] = buffer.getvalue()
    return found


def mutate(seed: int, files: list[bytes]) -> bytes:
    """One of the files with flipped bits, cut short, or with the beginning of another."""
    rng = random.Random(seed)
    content = bytearray(rng.choice(files))
    kind = rng.choice(("header", "anywhere", "cut", "splice"))
    if kind == "cut":
        del content[rng.randrange(len(content)) :]
    elif kind == "splice":
        other = rng.choice(files)
        length = rng.randrange(4, 64)
        content[:length] = other[:length]
    if kind != "cut":
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(min(len(content), 100 if kind == "header" else 1 << 20))] ^= 1 << rng.randrange(8)
    return bytes(content)


def try_to_open(content: bytes) -> tuple[str, int]:
    """What became of a file, and the most memory that this process has used, in megabytes."""
    with open(f"{os.getpid()}.dat", "wb") as file:
        file.write(content)
    try:
        square = open_square(file.name, 64)
        result = f"{square.mode} {square.size}"
    except ImageError as error:
        result = error.reason
    return result, peak_megabytes()


def peak_megabytes() -> int:
    """The most memory that this process has used."""
    status = Path("/proc/self/status")
    if status.exists():  # where ru_maxrss begins with that of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) >> 10
    try:
        import resource
    except ImportError:  # Windows: not measured
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


@pytest.mark.timeout(max(1800, MUTATIONS * SECONDS))
def test_damaged_images_cost_an_error_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    files = list(samples().values())
    monkeypatch.chdir(tmp_path)
    results = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            for seed in range(MUTATIONS):
                # A crash breaks the pool and a hang runs into the limit; the seed is in the traceback's locals.
                try:
                    result, memory = pool.submit(try_to_open, mutate(seed, files)).result(SECONDS + 20 * (seed == 0))
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {error!r}") from None
                assert memory < MEGABYTES, f"seed {seed}: {memory} MB"
                assert result, f"seed {seed}"
                assert "\n" not in result, f"seed {seed}"
                results.append(result)
        finally:
            for process in list(pool._processes.values()):
                process.kill()
    assert len(results) == MUTATIONS
    read = sum(result == "RGB (64, 64)" for result in results)
    assert MUTATIONS * 0.1 < read < MUTATIONS * 0.9  # it damages, but not everything beyond recognition
    assert capfd.readouterr().out == ""


def test_an_enormous_image_is_refused_by_its_header(tmp_path: Path) -> None:
    header = samples()["BMP"]
    (tmp_path / "bomb.bmp").write_bytes(header[:18] + (60000).to_bytes(4, "little") * 2 + header[26:])
    with pytest.raises(ImageError, match="more than the limit of 100,000,000"):
        open_square(tmp_path / "bomb.bmp", 64)


def damage(rng: random.Random, files: list[bytes]) -> bytes:
    """One of the files with bytes changed, put in, left out, or taken from another, most of them near its beginning."""
    content = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 2, 3, 8, 30))):
        at = rng.randrange(min(len(content) + 1, rng.choice((64, 600, 3000))))
        kind = rng.choice(("set", "set", "extreme", "insert", "delete", "splice"))
        if kind == "set":
            content[at : at + 1] = rng.randbytes(1)
        elif kind == "extreme":
            content[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"))
        elif kind == "insert":
            content[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif kind == "delete":
            del content[at : at + rng.randrange(1, 9)]
        else:
            other, length = rng.choice(files), rng.randrange(60)
            start = rng.randrange(len(other))
            content[at : at + length] = other[start : start + length]
    return bytes(content)


def test_damaged_metadata_costs_an_error_or_takes_the_caption() -> None:
    files = [*test_iptc.all_formats(test_iptc.human()).values(), *two_captions().values()]
    files += [test_iptc.jpeg_with(test_iptc.human(), test_iptc.resource(0x0425, bytes(16)))]
    files += [commented(b"UNICODE\0" + "Jo".encode("utf-16-le"))]
    rng = random.Random(8)
    written = 0
    for _ in range(20 * MUTATIONS):
        content, text = damage(rng, files), rng.choice(("a cat", "eine Hündin", "猫", "x" * 500))
        filling = Filling(existing=rng.choice(("skip", "overwrite", "append", "prepend")))
        try:
            after = filling.filled(parse(content), text)
            assert parse(after).caption
            written += 1
        except MetadataError:
            pass
    assert 2 * MUTATIONS < written < 18 * MUTATIONS
