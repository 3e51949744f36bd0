from pathlib import Path

import pytest
import torch
from conftest import PHOTOS

from capcli.encoders import EfficientNetLite2
from capcli.images import ImageError
from capcli.training.datasets import Photo
from capcli.training.features import FeatureStore, is_mirrored, load_view, look_up

NAMES = ("chelsea.jpg", "coffee.jpg", "astronaut.jpg")


def photos(*names: str) -> list[Photo]:
    return [Photo(PHOTOS / name, ("a",), "train") for name in names]


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite2:
    torch.manual_seed(0)
    encoder = EfficientNetLite2()
    with torch.no_grad():  # statistics of some noise, or an untrained encoder lets nothing through
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1
        encoder.train()(torch.rand(8, 3, 64, 64) * 255)
    return encoder.eval()


def test_stored_features_are_the_encoders(encoder: EfficientNetLite2, tmp_path: Path) -> None:
    device, counted = torch.device("cpu"), []
    stores = [
        FeatureStore(tmp_path, encoder, photos(*NAMES[:2]), 2, 64, device, counted.append),
        FeatureStore(tmp_path, encoder, photos(NAMES[2]), 2, 64, device, counted.append),
    ]
    assert sum(counted) == 6
    index, views = torch.tensor([2, 0, 1]), torch.tensor([0, 1, 1])
    found = look_up(stores, index, views)
    pixels = torch.stack([load_view(photos(NAMES[i])[0], v, 64) for i, v in zip(index, views.tolist(), strict=True)])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = encoder(pixels)
    assert torch.allclose(found.annotations, expected.annotations.half(), atol=0.1)
    assert torch.allclose(found.global_vector, expected.global_vector.half(), atol=0.05)
    assert not torch.allclose(found.annotations[0], found.annotations[1], atol=0.5)


def test_a_store_is_made_once_for_the_same_photos_and_encoder(encoder: EfficientNetLite2, tmp_path: Path) -> None:
    counted: list[int] = []
    for _ in range(2):
        FeatureStore(tmp_path, encoder, photos("coffee.jpg"), 1, 64, torch.device("cpu"), counted.append)
    FeatureStore(tmp_path, encoder, photos("coffee.jpg"), 2, 64, torch.device("cpu"), counted.append)
    torch.manual_seed(9)
    FeatureStore(tmp_path, EfficientNetLite2().eval(), photos("coffee.jpg"), 1, 64, torch.device("cpu"), counted.append)
    assert counted == [1, 2, 1]


def test_views() -> None:
    (photo,) = photos("chelsea.jpg")
    plain, mirrored, crop, other = (load_view(photo, view, 64) for view in range(4))
    assert torch.equal(mirrored, plain.flip(2))
    assert [is_mirrored(view) for view in range(4)] == [False, True, False, True]
    assert torch.equal(crop, load_view(photo, 2, 64))
    assert not torch.equal(crop, plain)
    assert not torch.equal(other, crop.flip(2))
    with pytest.raises(ImageError):
        load_view(Photo(Path("absent.jpg"), (), "train"), 0, 64)
