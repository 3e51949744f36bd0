import pytest
import torch

from capcli.captioner import Captioner
from capcli.checkpoints.caption_model import CaptionModel
from capcli.engines.torch import TorchEngine
from capcli.model.confidence import CLUES, confidence
from capcli.training.measuring.calibration import (
    agrees,
    auc,
    calibrate,
    fit_confidence,
    gains_of_one_colour,
    least_gain,
    reliability,
)


def test_auc_counts_pairs_in_order() -> None:
    good = torch.tensor([True, True, False, False])
    assert auc(torch.tensor([4.0, 3.0, 2.0, 1.0]), good) == 1
    assert auc(torch.tensor([1.0, 2.0, 3.0, 4.0]), good) == 0
    assert auc(torch.tensor([4.0, 2.0, 3.0, 2.0]), good) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert auc(torch.tensor([1.0]), torch.tensor([False])) is None


def test_thresholds_keep_the_share_they_say() -> None:
    scores = [-0.1 * i for i in range(100)]
    cider = [200.0 - i for i in range(100)]
    found = calibrate(scores, cider)
    assert found["auc"] == 1
    assert [row["kept"] for row in found["thresholds"]] == [0.75, 0.5, 0.25]
    half = found["thresholds"][1]
    assert sum(score >= half["least"] - 1e-9 for score in scores) == 50
    assert half["cider"] == pytest.approx(sum(cider[:50]) / 50)


def test_scores_that_say_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, cider = torch.rand(2, 2000, generator=generator).tolist()
    assert calibrate(scores, cider)["auc"] == pytest.approx(0.5, abs=0.05)


def test_reliability_compares_what_confidence_says_with_what_is_right() -> None:
    assert reliability([0.0, 0.61, 0.69, 1.0], [False, True, False, True]) == [
        {"from": 0.0, "captions": 1, "confidence": 0.0, "right": 0.0},
        {"from": 0.6, "captions": 2, "confidence": 0.65, "right": 0.5},
        {"from": 0.9, "captions": 1, "confidence": 1.0, "right": 1.0},
    ]


def test_two_photos_in_a_hundred_gain_less() -> None:
    gains = [0.25 * i for i in range(1000)]
    assert sum(gain < least_gain(gains) for gain in gains) == 20
    assert least_gain([3.14159]) == 3.14


def test_pictures_of_one_colour_are_all_kinds_of_colours(tiny_model: CaptionModel) -> None:
    captioner = Captioner(TorchEngine(tiny_model, torch.device("cpu"), "fp32"))
    gains = gains_of_one_colour(captioner)
    assert len(gains) == 64
    assert len({round(gain, 6) for gain in gains}) > 32


def test_confidence_is_fitted_to_what_tells_right_from_wrong() -> None:
    generator = torch.Generator().manual_seed(1)
    clues = torch.randn(4000, len(CLUES), generator=generator) * torch.tensor([0.5, 2.0, 1.0, 0.3]) - 1
    truth = [3.0, 0.0, -1.0, 2.0, 4.0]
    chance = torch.tensor([confidence(row, truth) for row in clues.tolist()])
    right = (torch.rand(4000, generator=generator) < chance).tolist()
    found = fit_confidence(clues.tolist(), right)
    assert found == pytest.approx(truth, abs=0.6)
    told = torch.tensor([confidence(row, found) for row in clues.tolist()])
    assert float((told - chance).abs().mean()) < 0.03
    assert fit_confidence(clues.tolist()[:10], right[:10]) == []
    assert fit_confidence(clues.tolist(), [True] * 4000) == []


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("a dog running on grass", True),
        ("two dogs run", True),
        ("a dog in a kitchen", True),
        ("a cat in a kitchen", False),
        ("on a", True),
    ],
)
def test_a_caption_is_right_where_people_say_half_of_it(caption: str, right: bool) -> None:
    assert agrees({"caption": caption, "references": ["the dogs ran over the grass", "a brown dog runs"]}) is right
