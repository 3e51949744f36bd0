import math

import pytest
import torch

from capcli.training.measuring.bootstrap import bleu, bleu_intervals, interval, mean_interval, paired, resample


def counts(correct: list[int], ours: int, theirs: int) -> list[int]:
    return [*correct, *(max(0, ours - n) for n in range(4)), ours, theirs]


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


def test_what_is_hard_for_both_models_widens_no_difference() -> None:
    noise = torch.Generator().manual_seed(3)
    hard = torch.randn(400, generator=noise, dtype=torch.double) * 50
    small = torch.randn(400, generator=noise, dtype=torch.double) * 2
    ours = [{"cider": float(x + e + 1), "bleu_counts": counts([4, 2, 1, 1], 5, 5)} for x, e in zip(hard, small)]  # noqa: B905
    theirs = [{"cider": float(x), "bleu_counts": counts([4, 2, 1, 0], 5, 5)} for x in hard]
    difference = float(small.mean()) + 1
    found = paired(ours, theirs, {"cider": (difference, 0.0), "bleu_1": (80.0, 80.0), "bleu_4": (40.0, 0.0)})
    low, high = found["cider"]["interval"]
    half = 1.96 * 2 / 400**0.5
    assert (low, high) == pytest.approx((difference - half, difference + half), abs=0.05)
    assert found["cider"]["p"] == found["bleu_4"]["p"] == pytest.approx(2 / 1001, abs=1e-4)
    assert found["bleu_1"] == {"difference": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    back = paired(theirs, ours, {"cider": (0.0, difference)})["cider"]
    assert back["interval"] == pytest.approx([-high, -low], abs=0.011)


def test_p_of_equal_models_is_even() -> None:
    noise = torch.Generator().manual_seed(5)
    found = []
    for values in torch.randn(40, 2, 100, generator=noise, dtype=torch.double):
        ours, theirs = ([{"rouge_l": float(value)} for value in row] for row in values)
        means = float(values[0].mean()), float(values[1].mean())
        found.append(paired(ours, theirs, {"rouge_l": means})["rouge_l"]["p"])
    assert sum(found) / 40 == pytest.approx(0.5, abs=0.14)
    assert sum(p < 0.5 for p in found) == pytest.approx(20, abs=9)
