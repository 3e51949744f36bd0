"""Files damaged at random, and what opening them costs."""

from __future__ import annotations

import io
import os
import random
import sys
from pathlib import Path

from PIL import Image, features

from capcli.images.decode import open_square
from capcli.results import ImageError

MUTATIONS = 2000 if os.environ.get("CAPCLI_FULL_TESTS") else 160

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
