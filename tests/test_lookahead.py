import threading
from collections.abc import Iterator

import pytest

from capcli import streaming as lookahead
from capcli.streaming import LookAhead


def everything(ahead: LookAhead, count: int) -> list[tuple]:
    taken = []
    while batch := ahead.take(count):
        assert len(batch) <= count
        taken += batch
        ahead.release(len(batch))
    return taken


def test_each_item_comes_once_with_its_result() -> None:
    ahead = LookAhead(lambda x: x * x, range(100), 10)
    assert sorted(everything(ahead, 7)) == [(i, i * i) for i in range(100)]
    ahead.close()


def test_no_items_end_at_once() -> None:
    assert LookAhead(str, [], 3).take(5) == []


def test_no_more_items_are_read_than_the_limit() -> None:
    read = []

    def items() -> Iterator[int]:
        for i in range(50):
            read.append(i)
            yield i

    ahead = LookAhead(lambda x: x, items(), 6)
    first = ahead.take(6)
    assert [index for index, _ in first] == list(range(6))
    assert len(read) == 6  # all slots are taken until something is released
    ahead.release(2)
    assert [index for index, _ in ahead.take(2)] == [6, 7]
    assert len(read) == 8
    ahead.close()


def test_few_items_wait_for_the_function() -> None:
    begun, most = [], 0

    def items() -> Iterator[int]:
        nonlocal most
        for i in range(2000):
            most = max(most, i - len(begun))
            yield i

    ahead = LookAhead(begun.append, items(), 1000)
    assert len(everything(ahead, 100)) == 2000
    assert most <= 2 * lookahead.THREADS
    ahead.close()


def test_in_order_batches_are_the_same_however_long_items_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "FULL_BATCH_TIMEOUT", 0.0)
    others = threading.Semaphore(0)

    def late(i: int) -> int:
        if i == 0:  # the last of the first four to be there
            for _ in range(3):
                others.acquire(timeout=1800)
        others.release()
        return i

    ahead = LookAhead(late, range(10), 20, in_order=True)
    batches = [[index for index, _ in ahead.take(4)] for _ in range(4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]
    ahead.close()


def test_a_slow_item_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "FULL_BATCH_TIMEOUT", 0.01)
    open_now = threading.Event()
    ahead = LookAhead(lambda i: open_now.wait(1800) if i == 0 else i, range(20), 100)
    seen: list[int] = []
    while len(seen) < 19:
        seen += [index for index, _ in ahead.take(8)]
    assert sorted(seen) == list(range(1, 20))
    open_now.set()
    assert ahead.take(8) == [(0, True)]
    assert ahead.take(8) == []
    ahead.close()


def test_without_patience_a_batch_is_what_is_ready() -> None:
    go_on = threading.Event()  # which nobody sets before the batch is there: with patience it would take half a second
    ahead = LookAhead(lambda i: i or go_on.wait(1800), [7, 0], 10, patience=0)
    while not (batch := ahead.take(2)):
        pass
    assert batch == [(0, 7)]
    go_on.set()
    assert ahead.take(2) == [(1, True)]
    ahead.close()


def test_a_slow_list_holds_up_nothing_that_was_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "FULL_BATCH_TIMEOUT", 0.01)
    go_on = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        go_on.wait(1800)
        yield 2

    ahead = LookAhead(lambda x: x, items(), 10)
    assert ahead.take(8) == [(0, 1)]
    go_on.set()
    assert ahead.take(8) == [(1, 2)]
    assert ahead.take(8) == []


def test_exceptions_of_items_are_results_and_those_of_the_source_come_last() -> None:
    def items() -> Iterator[int]:
        yield from (1, 0, 2)
        raise OSError("the list broke off")

    ahead = LookAhead(lambda x: 6 // x, items(), 10)
    results = [ahead.take(1)[0] for _ in range(3)]
    with pytest.raises(OSError, match="the list broke off"):
        ahead.take(1)
    assert sorted(index for index, _ in results) == [0, 1, 2]
    by_number = dict(results)
    assert by_number[0] == 6
    assert by_number[2] == 3
    assert isinstance(by_number[1], ZeroDivisionError)


def test_close_lets_the_threads_end() -> None:
    before = set(threading.enumerate())
    ahead = LookAhead(lambda x: x, iter(int, 1), 4)  # a source without an end
    ahead.take(2)
    ahead.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(1800)
        assert not thread.is_alive()


def test_threads_have_ended_once_it_is_closed_but_for_one_that_is_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "LAST_WAIT", 20.0)  # a guard against hanging
    ahead = LookAhead(str, range(1000), 4)
    ahead.take(2)
    ahead.close()
    assert not any(thread.is_alive() for thread in ahead.threads)

    monkeypatch.setattr(lookahead, "LAST_WAIT", 0.1)
    begun, go_on = threading.Event(), threading.Event()

    def hang(item: int) -> None:
        begun.set()
        go_on.wait(1800)

    held = LookAhead(hang, [1], 4)
    assert begun.wait(1800)
    held.close()
    assert any(thread.is_alive() for thread in held.threads)
    go_on.set()
    for thread in held.threads:
        thread.join(1800)
        assert not thread.is_alive()
