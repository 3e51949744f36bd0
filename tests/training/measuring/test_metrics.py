import pytest

from capcli.training.measuring import metrics
from capcli.training.measuring.java import have_java
from capcli.training.measuring.metrics import describe, diversity, score_captions

REFERENCES = [["A cat sits on a sofa.", "a cat on a sofa"], ["Two dogs run!", "two dogs are running on grass"]]


def test_a_reference_scores_highest(capfd: pytest.CaptureFixture[str]) -> None:
    same = score_captions(["a cat on a sofa", "two dogs are running on grass"], REFERENCES)
    other = score_captions(["a man on a horse", "a red bus"], REFERENCES, meteor=False)  # METEOR takes seconds
    assert same["bleu_1"] == pytest.approx(100)
    assert same["rouge_l"] > 90
    assert other["cider"] < same["cider"]
    each = [scores["cider"] for scores in same["each"]]
    assert len(each) == 2
    assert same["cider"] == pytest.approx(sum(each) / 2)
    assert same["each"][0].keys() == set(same["intervals"]) | {"bleu_counts"}
    assert same["each"][0]["bleu_counts"] == [5, 4, 3, 2, 5, 4, 3, 2, 5, 5]
    assert set(same["intervals"]) == set(same) & {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider", "meteor"}
    assert all(low - 0.01 <= same[name] <= high + 0.01 for name, (low, high) in same["intervals"].items())
    # Two photos: a resample has one of them twice, or both.
    assert same["intervals"]["cider"] == pytest.approx(sorted(each), abs=0.01)
    assert capfd.readouterr().out == ""
    assert ("meteor" in same) == have_java()


def test_what_the_scores_hide() -> None:
    captions = ["a dog and a dog", "the the cat", "a man on grass", "a man on grass"]
    assert describe(captions, {"a man on grass"}) == {
        "distinct_words": 8,
        "mean_length": 4.0,
        "repetition": 50.0,
        "unseen": 50.0,
    }


def test_diversity_of_candidates() -> None:
    same = [["a cat on a sofa"] * 3, ["two dogs run"] * 3]
    other = [["a cat on a sofa", "kittens sleep", "grey animal lies there"], ["two dogs", "grass field", "they run"]]
    # All candidates end alike, and the end mark counts as a word, so 1 itself is out of reach.
    assert diversity(same, REFERENCES)["self_cider"] == pytest.approx(0, abs=1e-6)
    assert 0.8 < diversity(other, REFERENCES)["self_cider"] <= 1
    assert diversity([["a dog", "a dog"], ["a cat", "a cat"]], REFERENCES)["distinct_share"] == pytest.approx(50)


@pytest.mark.skipif(not have_java(), reason="needs Java")
def test_no_line_end_inside_a_reference_moves_the_others() -> None:
    separators = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
    sentences = [["first dog"], *([f"second{c}cat"] for c in separators), ["third bird"]]
    expected = [["first dog"], *([["second cat"]] * len(separators)), ["third bird"]]
    assert metrics.tokenized(sentences) == (expected, "PTB")


def test_cider_of_a_single_photo_is_undefined(no_java: None) -> None:
    scores = score_captions(["a cat on a sofa"], REFERENCES[:1])
    assert "cider" not in scores
    assert "cider" not in scores["intervals"]
    assert [own["cider"] for own in scores["each"]] == [None]
