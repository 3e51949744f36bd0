import math

import pytest
import torch

from capcli.training.measuring.bootstrap import bleu, bleu_intervals, interval, mean_interval, resample


def counts(correct: list[int], ours: int, theirs: int) -> dict[str, object]:
    return {"correct": correct, "guess": [max(0, ours - n) for n in range(4)], "testlen": ours, "reflen": theirs}


def test_each_resample_has_as_many_photos() -> None:
    times = resample(7)
    assert torch.equal(times.sum(1), torch.full((1000,), 7.0, dtype=torch.double))
    assert torch.equal(times, resample(7))
    assert times.std(0).min() > 0


def test_a_mean_s_interval_is_that_of_the_normal_distribution() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(3), dtype=torch.double) * 5
    low, high = mean_interval(resample(400), values.tolist(), float(values.mean()))
    half = 1.96 * float(values.std()) / 400**0.5
    assert low == pytest.approx(float(values.mean()) - half, abs=0.1)
    assert high == pytest.approx(float(values.mean()) + half, abs=0.1)
    # of a score that is no plain mean, the same interval around it
    shifted = mean_interval(resample(400), values.tolist(), float(values.mean()) + 10)
    assert shifted == pytest.approx((low + 10, high + 10))


def test_bleu_by_hand() -> None:
    # 3 of 4 words, 1 of 3 pairs, none longer; one word shorter than the reference.
    found = bleu(torch.tensor([3, 1, 0, 0, 4, 3, 2, 1, 4, 5], dtype=torch.double))
    brevity = math.exp(1 - 5 / 4)
    assert found.tolist() == pytest.approx([75 * brevity, 100 * (0.75 / 3) ** 0.5 * brevity, 0, 0], rel=1e-6)


def test_bleu_s_interval_contains_it_and_shrinks_with_photos() -> None:
    rows = [counts([4, 2, 1, 0], 5, 5), counts([5, 4, 3, 2], 5, 4), counts([2, 0, 0, 0], 5, 7)]
    widths = []
    for repeat in (10, 90):
        many = rows * repeat
        exact = bleu(torch.tensor([[11, 6, 4, 2, 15, 12, 9, 6, 15, 16]], dtype=torch.double))[0]
        found = bleu_intervals(resample(len(many)), many)
        assert all(low < value < high for (low, high), value in zip(found, exact.tolist(), strict=True))
        widths.append(found[3][1] - found[3][0])
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.15)


def test_interval_leaves_out_the_tails() -> None:
    assert interval(torch.arange(1001, dtype=torch.double)) == pytest.approx((25, 975))
