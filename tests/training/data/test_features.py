from pathlib import Path

import pytest
import torch
from fakes import PHOTOS

from capcli.checkpoints.caption_model import CaptionModel
from capcli.checkpoints.hub import bundled_checkpoint
from capcli.model.encoders import EfficientNetLite2, Encoder
from capcli.results import ImageError
from capcli.training.data.datasets import Photo
from capcli.training.data.features import FeatureStore, is_mirrored, load_view, look_up

NAMES = ("chelsea.jpg", "coffee.jpg", "astronaut.jpg")


def photos(*names: str) -> list[Photo]:
    return [Photo(PHOTOS / name, ("a",), "train") for name in names]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """A trained one: random weights let rounding errors grow until they are all there is."""
    return CaptionModel.load(bundled_checkpoint()).encoder.eval()


# Rounded to bfloat16 in every layer, features are off by 3 % of their norm, whether or not the processor has bfloat16.
@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 0, 0.0005), ("bf16", 0.01, 0.05)])
def test_stored_features_are_the_encoders(
    encoder: Encoder, tmp_path: Path, precision: str, least: float, most: float
) -> None:
    device, counted = torch.device("cpu"), []
    stores = [
        FeatureStore(tmp_path, encoder, photos(*NAMES[:2]), 2, 64, device, precision),
        FeatureStore(tmp_path, encoder, photos(NAMES[2]), 2, 64, device, precision),
    ]
    assert not list(tmp_path.iterdir())
    for store in stores:
        store.open(counted.append)
    assert counted == [1, 2, 1, 1, 1]  # one view first, so that there is something to tell
    index, views = torch.tensor([2, 0, 1]), torch.tensor([0, 1, 1])
    found = look_up(stores, index, views)
    pixels = torch.stack([load_view(photos(NAMES[i])[0], v, 64) for i, v in zip(index, views.tolist(), strict=True)])
    with torch.inference_mode():
        expected = encoder(pixels)
    for ours, theirs in (
        (found.annotations.float(), expected.annotations),
        (found.global_vector.float(), expected.global_vector),
    ):
        assert least < float((ours - theirs).norm() / theirs.norm()) < most
        assert float((ours[0] - ours[1]).norm() / theirs[0].norm()) > 0.5


def test_a_store_is_made_once_for_the_same_photos_encoder_and_precision(encoder: Encoder, tmp_path: Path) -> None:
    counted: list[int] = []
    all_counted = []

    def store(encoder: Encoder, views: int, precision: str) -> None:
        made = FeatureStore(tmp_path, encoder, photos("coffee.jpg"), views, 64, torch.device("cpu"), precision)
        counted.clear()
        made.open(counted.append)
        all_counted.append(sum(counted))

    for _ in range(2):
        store(encoder, 1, "fp32")
    store(encoder, 2, "fp32")
    store(encoder, 1, "bf16")
    torch.manual_seed(9)
    store(EfficientNetLite2().eval(), 1, "fp32")
    assert all_counted == [1, 0, 2, 1, 1]


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
