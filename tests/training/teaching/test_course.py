"""What the page of teaching shows, as it goes."""

from __future__ import annotations

from pathlib import Path

from capcli.training.data.datasets import Photo
from capcli.training.teaching.course import Course


def test_the_page_follows_trial_and_teaching() -> None:
    course = Course("mine", 3)
    assert (course.news().charts, course.news().table.rows) == ([], [])
    course.tried += [(4.0, 5.0), (3.0, None)]
    assert course.status() == "trying it on photos held out: pass 2 of 3 is over"
    course.tried.append((2.0, 4.6))
    course.gain = (12.34, 56.78)
    said = "CIDEr-D of photos held out 12.3 before, 56.8 after"
    assert course.status() == f"teaching: pass 0 of 3 is over; {said}"
    course.taught += [3.5]
    news = course.news()
    assert news.going
    assert news.charts[0].lines[1].points == [(1, 5.0), (3, 4.6)]
    assert [chart.title for chart in news.charts] == ["Loss on trial", "Loss in teaching"]
    assert news.table.rows == [(1, 4.0, 5.0, 3.5), (2, 3.0, None, None), (3, 2.0, 4.6, None)]
    course.taught += [2.5, 1.5]
    course.seconds = 93.4
    assert course.status() == f"taught in 93 s; {said}"
    assert not course.news().going


def test_few_photos_are_not_held_out() -> None:
    course = Course("mine", 2, taught=[3.0], held_out=False)
    course.show([Photo(Path("a.jpg"), ("a cat",), "train")], [{"text": "a dog"}], [{"text": "a cat"}])
    news = course.news()
    assert news.what == "Some photos that were taught"
    assert [(label, sentence["text"]) for label, sentence in news.shown[0].said] == [
        ("after", "a cat"),
        ("before", "a dog"),
    ]
    assert news.table.rows == [(1, None, None, 3.0)]
