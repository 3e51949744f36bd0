"""Contact sheets."""

import pytest
from fakes import GREY
from PIL import Image

from capcli.maps.sheet import contact_sheet


@pytest.mark.parametrize("size", [(40, 400), (1000, 60), (300, 300), (300, 200), (1, 1)])
@pytest.mark.parametrize("count", [1, 9, 30])
def test_sheets_hold_every_word_at_their_width(size: tuple[int, int], count: int) -> None:
    photo = Image.new("RGB", size, GREY)
    words = ["word", "antidisestablishmentarianism" * 3][: count if count < 2 else 2] * count
    sheet = contact_sheet(photo, [photo] * count, words[:count], [-1.0] * (count + 1), "many words " * count)
    assert sheet.width == 1200
    assert sheet.height < 6000
    # the last rows of the sheet are its margin, and the paper shows between the tiles
    assert sheet.crop((0, sheet.height - 20, 1200, sheet.height)).getcolors() == [(24000, (255, 255, 255))]
