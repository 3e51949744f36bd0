"""What only JPEG files have: several pictures in one, and blocks that go on in the next segment."""

import io
import struct
from pathlib import Path

import pytest
from photo_files import (
    KURZ,
    THUMBNAIL,
    app13,
    caption,
    described,
    encode,
    human,
    iptc_of,
    jpeg,
    jpeg_with,
    put,
    read_resources,
    resource,
    with_segment,
)
from PIL import Image

from capcli.outputs.metadata import Metadata, read_caption
from capcli.results import ImageError


def test_several_pictures_in_one_are_refused_before_captioning(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(with_segment(0xE2, b"MPF\0II*\0"))
    for existing in ("skip", "overwrite"):
        with pytest.raises(ImageError, match="several pictures in one JPEG"):
            Metadata(existing).wants(str(path))


def test_several_segments_of_resources_are_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    large = resource(0x0400, bytes(60000)) + resource(0x0404, human()) + resource(0x0401, bytes(9999))
    path.write_bytes(jpeg(app13(large[:65000]), app13(large[65000:])))
    assert read_caption(str(path)) == "Grandma's 80th birthday"
    for text in ("a cat", "a cat that is longer", "a cat"):
        after = caption(path, "overwrite", text)
        assert iptc_of(after) == human(text.encode())
        assert read_resources(after) == large.replace(resource(0x0404, human()), resource(0x0404, human(text.encode())))
    two = app13(THUMBNAIL + bytes(3)), app13(resource(0x0404, human()))
    path.write_bytes(jpeg(*two))
    assert two[0] in caption(path, "overwrite")
    assert read_caption(str(path)) == "a cat"


def test_441_overwrites_of_a_jpeg_with_everything(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with Image.open(io.BytesIO(jpeg_with(human()))) as image:
        photoshop = image.app["APP13"]  # type: ignore[attr-defined]
    segment = struct.pack(">BBH", 0xFF, 0xED, len(photoshop) + 2) + photoshop
    content = encode("JPEG", exif=described("Grandma"), xmp=KURZ)
    path.write_bytes(content[:2] + segment + content[2:])
    put(path, "overwrite", "caption 0")
    size = path.stat().st_size
    for i in range(1, 441):
        put(path, "overwrite", f"caption {i % 10}")
    assert path.stat().st_size == size
