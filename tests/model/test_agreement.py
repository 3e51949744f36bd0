"""Sentences and photos in one space."""

from __future__ import annotations

import pytest
import torch

from capcli.model.agreement import Agreement
from capcli.model.vocabulary import PAD, UNKNOWN


@pytest.fixture
def agreement() -> Agreement:
    torch.manual_seed(3)
    return Agreement(12, 20, 16).eval()


def test_a_cosine_for_each_sentence_of_each_photo(agreement: Agreement) -> None:
    photos = agreement.photos(torch.rand(3, 20))
    words = torch.randint(4, 12, (3, 5, 4))
    cosines = agreement(photos, words)
    assert cosines.shape == (3, 5)
    one = agreement.sentences(words[1, 2:3])
    assert photos.norm(dim=1).allclose(torch.ones(3))
    assert one.norm().item() == pytest.approx(1)
    assert cosines[1, 2].item() == pytest.approx((photos[1] @ one[0]).item(), abs=1e-6)


def test_what_a_sentence_is_padded_with_does_not_count(agreement: Agreement) -> None:
    words = torch.tensor([[5, 6, 7]])
    padded = torch.tensor([[5, 6, 7, PAD, PAD], [8, 4, 5, 9, 10]])
    assert agreement.sentences(padded)[0].allclose(agreement.sentences(words)[0], atol=1e-6)


def test_the_order_of_words_counts(agreement: Agreement) -> None:
    there, back = agreement.sentences(torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]]))
    assert not there.allclose(back, atol=1e-3)


def test_words_that_were_not_known_are_unknown_ones(agreement: Agreement) -> None:
    new, unknown = agreement.sentences(torch.tensor([[4, 12, 6], [4, UNKNOWN, 6]]))
    assert new.equal(unknown)
