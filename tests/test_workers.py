import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

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
