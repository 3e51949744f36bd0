"""Charts: what is drawn lies where its axes say."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from capcli.training.watching.charts import Chart, Line, figure, round_step


def chart(*values: float, last: int = 10, kept: int | None = None) -> Chart:
    return Chart("Loss", "epoch", last, [Line("training", list(enumerate(values, 1)))], kept)


def test_points_lie_between_the_marks_that_enclose_them() -> None:
    drawn = chart(4.21, 3.8, 3.02)
    (points,) = drawn.drawn()
    marks = {float(tick.text): tick.place for tick in drawn.y_ticks()}
    assert list(marks) == [3, 3.5, 4, 4.5]
    assert (marks[3], marks[4.5]) == (drawn.bottom, drawn.top)
    for value, point in zip((4.21, 3.8, 3.02), points, strict=True):
        share = (marks[3] - point.y) / (marks[3] - marks[4.5])
        assert 3 + share * 1.5 == pytest.approx(value, abs=0.01)
    assert [point.x for point in points] == [drawn.left, *(round(44 + i * 302 / 9, 1) for i in (1, 2))]
    assert points[1].text == "training, epoch 2: 3.800"
    assert drawn.summary() == "Loss; training: 4.210 in epoch 1, 3.020 in epoch 3"


@pytest.mark.parametrize(("last", "marks"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (10, [1, 2, 4, 6, 8, 10])])
def test_steps_are_marked_from_the_first_to_the_last(last: int, marks: list[int]) -> None:
    assert [int(tick.text) for tick in chart(1.0, last=last).x_ticks()] == marks


@pytest.mark.parametrize("last", [17, 42, 100, 1001, 99_999])
def test_marks_of_steps_do_not_touch_each_other(last: int) -> None:
    ticks = list(chart(1.0, last=last).x_ticks())
    assert 3 <= len(ticks) <= 8
    # a digit is some seven units wide
    assert all(b.place - a.place > 4 * (len(a.text) + len(b.text)) for a, b in pairwise(ticks))


@pytest.mark.parametrize("value", [0.0, 2.5, -3.0, 1e-9, 1e9])
def test_a_single_value_has_a_chart(value: float) -> None:
    drawn = chart(value, last=1)
    (((x, y, _),),) = drawn.drawn()
    assert drawn.left < x < drawn.right
    assert drawn.top <= y <= drawn.bottom
    assert drawn.summary().count("epoch") == 1


def test_what_is_no_number_is_left_out() -> None:
    (points,) = chart(2.0, math.nan, math.inf, 1.0).drawn()
    assert [point.text[-5:] for point in points] == ["2.000", "1.000"]


def test_figures_are_short() -> None:
    assert [figure(value) for value in (12, 12345, 3.66, 0.0, 0.00025056, 6.62e-6)] == [
        "12", "12,345", "3.660", "0", "0.0002506", "6.620e-06",
    ]  # fmt: skip
    assert [round_step(least) for least in (0.9, 1, 1.1, 3, 7, 0.02)] == pytest.approx([1, 1, 2, 5, 10, 0.02])
