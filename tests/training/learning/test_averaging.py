import pytest
import torch
from torch import nn

from capcli.training.learning.averaging import WeightAverage


def test_the_average_forgets_slowly() -> None:
    weight = nn.Parameter(torch.zeros(2))
    average = WeightAverage([weight], 0.9)
    for _ in range(200):  # long enough for the decay to be the one asked for
        average.update()
    with torch.no_grad():
        weight.fill_(1)
    for _ in range(3):
        average.update()
    assert average.tensors[0].tolist() == pytest.approx([1 - 0.9**3] * 2)


def test_the_first_updates_count_what_there_is() -> None:
    weight = nn.Parameter(torch.ones(1))
    average = WeightAverage([weight], 0.999)
    with torch.no_grad():
        weight.fill_(3)
    average.update()
    assert average.tensors[0].item() == pytest.approx(0.1 * 1 + 0.9 * 3)


def test_applied_and_taken_back() -> None:
    weight = nn.Parameter(torch.ones(1))
    average = WeightAverage([weight], 0.5)
    with torch.no_grad():
        weight.fill_(3)
    with average.applied():
        assert weight.item() == 1
    assert weight.item() == 3
    assert average.tensors[0].item() == 1


def test_restored_averages_go_on_alike() -> None:
    weight = nn.Parameter(torch.ones(1))
    one, other = WeightAverage([weight], 0.7), WeightAverage([weight], 0.7)
    with torch.no_grad():
        weight.fill_(5)
    one.update()
    other.restore([tensor.clone() for tensor in one.tensors], one.updates)
    one.update()
    other.update()
    assert one.tensors[0].item() == other.tensors[0].item()


def test_the_first_weights_keep_their_share() -> None:
    weight = nn.Parameter(torch.ones(1))
    average = WeightAverage([weight], 0.0, first_share=0.25)
    with torch.no_grad():
        weight.fill_(5)
    average.update()
    with average.applied():
        assert weight.item() == pytest.approx(0.25 * 1 + 0.75 * 5)
    assert weight.item() == 5
