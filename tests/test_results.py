"""Captions and explanations lend their sentence's attributes; nothing of it needs PyTorch."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from capcli.explaining.reading import Explanation
from capcli.results import AttentionMap, Candidate, Caption

LENT = ("text", "words", "word_log_probs", "log_prob", "score", "attention", "gates", "cell_offset")


@pytest.fixture
def candidates() -> tuple[Candidate, Candidate]:
    seen = AttentionMap(np.full((2, 1, 2), 0.5), np.ones(2), 0.35)
    return Candidate("a cat", ("a", "cat"), (-0.1,) * 3, -0.3, -0.1, seen), Candidate("a", ("a",), (-1.0,) * 2, -2, -1)


def test_the_best_candidates_attributes_are_the_captions(candidates: tuple[Candidate, Candidate]) -> None:
    caption = Caption("x.jpg", candidates, 2.5)
    explanation = Explanation(
        Caption("x.jpg", candidates[:1]), (False,) * 2, (1.0, -2.0, 0.5), ("a", "dog", "<end>"), (), (None,) * 3
    )
    for name in LENT:
        for lending in (caption, explanation):
            assert getattr(lending, name) is getattr(candidates[0], name)
    assert caption.best is candidates[0]
    assert (explanation.path, explanation.gain, explanation.doubted) == ("x.jpg", -0.5, (False, True, False))


def test_without_attention_there_is_nothing_to_see(candidates: tuple[Candidate, Candidate]) -> None:
    assert (candidates[1].attention, candidates[1].gates, candidates[1].cell_offset) == (None, None, 0)


def test_captions_can_be_pickled(candidates: tuple[Candidate, Candidate]) -> None:
    copy = pickle.loads(pickle.dumps(Caption("x.jpg", candidates)))
    assert copy.text == "a cat"
    assert np.array_equal(copy.attention, candidates[0].attention)


@pytest.mark.slow
def test_results_and_their_pictures_need_no_torch() -> None:
    modules = "capcli.results, capcli.maps.folders, capcli.maps.page, capcli.maps.terminal"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=1800)
