"""The arithmetic of ranks, with what the others would send made up here instead of by other processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from capcli.model.vocabulary import PAD
from capcli.training.data.datasets import Batch, DataError
from capcli.training.learning.losses import Baseline
from capcli.training.learning.ranks import GLANCE, Ranks


def make_batch(photos: int) -> Batch:
    ids = torch.arange(photos)
    words = torch.full((photos, 2, 3), PAD)
    words[:, :, 0] = 5
    words[0] = 5  # three times as many words as in the others
    return Batch(ids, ids % 2, words, words)


class Pretended(Ranks):
    """A rank that gets sums from a function of its own tensor."""

    def __init__(self, rank: int, count: int, add: Callable[[Tensor], Tensor]) -> None:
        super().__init__(rank, count)
        self.pretend = add

    def add(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self.pretend(tensor))


@pytest.mark.parametrize(("photos", "count"), [(7, 2), (6, 3), (2, 3), (1, 4)])
def test_each_photo_counts_on_one_rank(photos: int, count: int) -> None:
    batch = make_batch(photos)
    parts = [Ranks(rank, count).part(batch) for rank in range(count)]
    counted = torch.cat([part.photos for part in parts if not part.idle])
    assert sorted(counted.tolist()) == list(range(photos))
    for part in parts:
        assert part.size == photos
        assert len(part.photos) == len(part.views) == len(part.words) == len(part.targets) >= 1
        assert torch.equal(part.words, batch.words[part.photos])
    assert sum(part.idle for part in parts) == max(count - photos, 0)


def test_shares_add_up_to_one() -> None:
    batch = make_batch(3)
    parts = [Ranks(rank, 4).part(batch) for rank in range(4)]
    words = int((batch.targets != PAD).sum())
    shares = [
        Pretended(rank, 4, lambda _: torch.tensor(words)).share(part.targets != PAD, part)
        for rank, part in enumerate(parts)
    ]
    assert shares == [0.6, 0.2, 0.2, 0.0]


def test_one_alone_computes_and_waits_for_nothing() -> None:
    ranks, batch = Ranks(), make_batch(3)
    assert ranks.part(batch) is batch
    assert ranks.share(torch.zeros(2, dtype=torch.bool), batch) == 1.0
    assert ranks.total(0.1) == 0.1
    assert ranks.leads
    assert ranks.first_to_fail()
    ranks.wait_for_leader()
    with ranks.meet(torch.device("meta")) as device:
        assert device == torch.device("meta")


def with_one_store(count: int) -> list[Ranks]:
    store, several = torch.distributed.HashStore(), [Ranks(rank, count) for rank in range(count)]
    for ranks in several:
        ranks.store = store
    return several


def test_the_others_wait_for_rank_0_each_time() -> None:
    leader, other = with_one_store(2)
    with ThreadPoolExecutor() as pool:
        for _ in range(2):
            waiting = pool.submit(other.wait_for_leader)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1.5 * GLANCE)
            leader.wait_for_leader()
            assert waiting.result(timeout=1800) is None


def test_one_rank_tells_why_all_end() -> None:
    leader, first = with_one_store(2)
    assert first.first_to_fail()
    assert not leader.first_to_fail()
    assert first.first_to_fail()


def test_gradients_are_added_up() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    Pretended(0, 2, lambda sums: sums + torch.arange(10)).add_gradients(
        [*parameters, torch.nn.Parameter(torch.ones(1))]
    )
    assert parameters[0].grad is not None
    assert parameters[0].grad.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert parameters[1].grad is not None
    assert parameters[1].grad.tolist() == [7, 8, 9, 10]


def test_averages_of_rewards_are_those_of_the_whole_batch() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, targets = torch.randn(4, 2, 3, 6, generator=generator), torch.randint(1, 6, (4, 2, 3), generator=generator)
    alone, sent = Baseline(6), []
    alone.reward_to_go(logits, targets)
    Baseline(6, Pretended(1, 2, lambda sums: sent.append(sums.clone()) or sums)).reward_to_go(logits[2:], targets[2:])
    shared = Baseline(6, Pretended(0, 2, lambda sums: sums + sent[0]))
    shared.reward_to_go(logits[:2], targets[:2])
    torch.testing.assert_close(shared.means, alone.means, equal_nan=True)


def test_ranks_that_do_not_begin_alike_stop() -> None:
    Pretended(0, 2, lambda digest: 2 * digest).require_alike({"captions": "a"}, [])
    with pytest.raises(DataError, match="all need the same files"):
        Pretended(0, 2, lambda digest: 2 * digest + 1).require_alike({"captions": "a"}, [])


@pytest.mark.parametrize(("device", "reason"), [("mps", "cpu and cuda can"), ("cuda:1", "each takes its own")])
def test_a_device_that_several_processes_cannot_have_is_refused(device: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason), Ranks(0, 2).meet(torch.device(device)):
        pass
