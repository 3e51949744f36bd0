"""The photo that is drawn on."""

from pathlib import Path

from fakes import GREY
from photo_files import save_photo
from PIL import Image

from capcli.images.decode import open_upright


def test_upright_pictures_keep_their_shape_and_are_bounded(tmp_path: Path) -> None:
    photo = Image.new("RGB", (400, 100), GREY)
    photo.paste((255, 0, 0), (0, 0, 50, 100))
    save_photo(tmp_path / "x.png", photo, rotated=True)
    upright = open_upright(tmp_path / "x.png", 200)
    assert upright.size == (200, 50)
    assert upright.getpixel((3, 25))[0] > 200
    assert open_upright(photo, 1000).size == (400, 100)
    assert open_upright(Image.new("RGB", (20000, 10)), 100).size == (100, 1)
