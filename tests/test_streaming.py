"""Work ahead in threads: `Workers`, which give results in order, and `LookAhead`, from which batches are taken."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from capcli import streaming
from capcli.streaming import Aside, LookAhead, Workers, ahead


def square(x: int) -> int:
    return x * x


@pytest.mark.parametrize("threads", [1, 3])
def test_every_item_is_worked_on_once_in_growing_batches(threads: int) -> None:
    sizes = []

    def work(batch: list) -> list:
        sizes.append(len(batch))
        return batch

    workers = Workers(threads, LookAhead(square, range(100), 40), 8, work)
    assert [result for ready in workers for result in ready] == [i * i for i in range(100)]
    workers.close()
    if threads == 1:
        assert sizes == [1, 2, 4, *[8] * 11, 5]


def test_batches_are_worked_on_side_by_side() -> None:
    together = threading.Barrier(3, timeout=1800)

    def work(batch: list) -> list:
        together.wait()  # passes only with three batches at work
        return batch

    workers = Workers(3, LookAhead(square, range(9), 9), 1, work)
    assert [result for ready in workers for result in ready] == [i * i for i in range(9)]
    workers.close()


def test_a_failure_comes_after_the_results_before_it() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the list ends here")

    workers = Workers(2, LookAhead(square, items(), 20), 2, lambda batch: batch)
    found: list[int] = []
    with pytest.raises(OSError, match="the list ends here"):
        found.extend(result for ready in workers for result in ready)
    assert found == [0, 1, 4, 9, 16]
    workers.close()


def test_closing_ends_threads_that_wait() -> None:
    never = threading.Event()
    workers = Workers(2, LookAhead(lambda x: never.wait(), range(4), 4), 2, lambda batch: batch)
    workers.close()
    assert not any(thread.is_alive() for thread in workers.threads)
    never.set()


@pytest.mark.slow
def test_a_program_that_stops_reading_ends() -> None:
    script = """
import itertools
from capcli.streaming import LookAhead
from capcli.streaming import Workers
workers = Workers(2, LookAhead(abs, itertools.count(), 8), 2, lambda batch: batch)
kept = iter(workers)
print(len(next(kept)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=1800, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_results_wait_for_those_before_them() -> None:
    second_done = threading.Event()

    def work(batch: list) -> list:
        if batch == [0]:
            assert second_done.wait(1800)
        elif 1 in batch:
            second_done.set()
        return batch

    workers = Workers(2, LookAhead(abs, range(6), 6, in_order=True), 2, work)
    assert next(iter(workers))[0] == 0
    workers.close()


def test_what_is_worked_on_ahead_comes_in_order_and_fails_in_its_turn() -> None:
    def halve(x: int) -> float:
        return 4 / (4 - x)

    taken = []

    def items() -> Iterator[int]:
        for x in itertools.count():
            taken.append(x)
            yield x

    results = ahead(halve, items(), 3)
    assert [next(results) for _ in range(4)] == [1, 4 / 3, 2, 4]
    assert len(taken) <= 4 + 3
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(ahead(halve, [], 3)) == []


COMPUTING = """
import hashlib, threading
from capcli import streaming
begun = threading.Event()
def compute(*_):
    begun.set()
    hashlib.pbkdf2_hmac("sha256", b"a photo", b"", 1_000_000)  # C code, without Python's lock
    print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "streaming.Aside(compute).start()",
        "kept = streaming.LookAhead(compute, [1], 1)",
        "streaming.LAST_WAIT = 0.0\nkept = streaming.LookAhead(compute, [1], 1)\nbegun.wait()\nkept.close()",
    ],
)
def test_no_thread_is_in_c_code_when_the_interpreter_ends(script: str) -> None:
    script = f"{COMPUTING}{script}\nbegun.wait()\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=1800, env=os.environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_what_goes_on_aside_is_done_once_or_not_at_all() -> None:
    done: list[int] = []
    aside = Aside(lambda: done.append(1))
    aside.start()
    aside.start()
    aside.close()
    assert done == [1]
    unwanted = Aside(lambda: done.append(2))
    unwanted.close()
    unwanted.start()
    assert done == [1]


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
    assert most <= 2 * streaming.THREADS
    ahead.close()


def test_in_order_batches_are_the_same_however_long_items_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "FULL_BATCH_TIMEOUT", 0.0)
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
    monkeypatch.setattr(streaming, "FULL_BATCH_TIMEOUT", 0.01)
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
    monkeypatch.setattr(streaming, "FULL_BATCH_TIMEOUT", 0.01)
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
    monkeypatch.setattr(streaming, "LAST_WAIT", 20.0)  # a guard against hanging
    ahead = LookAhead(str, range(1000), 4)
    ahead.take(2)
    ahead.close()
    assert not any(thread.is_alive() for thread in ahead.threads)

    monkeypatch.setattr(streaming, "LAST_WAIT", 0.1)
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
