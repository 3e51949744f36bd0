"""The search in numpy keeps the rules of that in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from capcli.decoding.beam_search import forbid as torch_forbid
from capcli.decoding.rules import Rules
from capcli.engines.numpy_search import forbid


@pytest.mark.parametrize("time", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    "rules", [Rules((4, 6)), Rules(no_repeat=1), Rules(no_repeat=2), Rules((4,), 2, True, (5,), (6, 7))], ids=range(4)
)
def test_the_same_words_are_forbidden(rules: Rules, time: int) -> None:
    random = np.random.default_rng(time)
    history, log_probs = random.integers(4, 9, (20, 9, time)), random.random((20, 9, 9), np.float32)
    expected = torch.tensor(log_probs)
    torch_forbid(expected, torch.tensor(history), rules)
    forbid(log_probs, history, rules)
    assert np.array_equal(log_probs, expected.numpy())
    assert np.isinf(log_probs).any() == bool(rules.banned or time >= max(1, rules.no_repeat))
