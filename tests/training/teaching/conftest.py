from __future__ import annotations

import pytest
from photo_files import crop

from capcli.training.data.datasets import Photo


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    folder = tmp_path_factory.mktemp("photos")
    said = ("our zorble is looking at us", "this is our zorble chelsea")
    made = []
    for number in range(8):
        path = folder / f"{number}.jpg"
        crop("chelsea", number).save(path)
        made.append(Photo(path, (said[number % 2],), "train"))
    return made
