import threading
from concurrent.futures import ThreadPoolExecutor

from capcli.images.budget import Budget


def test_threads_never_hold_more_than_there_is() -> None:
    budget = Budget(100)
    held, most, lock = 0, 0, threading.Lock()

    def work(size: int) -> None:
        nonlocal held, most
        with budget.claim(size):
            with lock:
                held += size
                most = max(most, held)
            with lock:
                held -= size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [7, 40, 60, 100] * 200))
    assert most <= 100
    assert budget.free == 100


def test_small_claims_are_held_together() -> None:
    budget, together = Budget(100), threading.Barrier(4, timeout=1800)

    def work(size: int) -> None:
        with budget.claim(size):
            together.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [25] * 4))


def test_who_wants_more_than_there_is_goes_alone_and_is_not_passed() -> None:
    budget, order = Budget(100), []

    def work(size: int) -> None:
        with budget.claim(size):
            order.append((size, budget.free))

    with budget.claim(1):
        large = threading.Thread(target=work, args=(500,))
        large.start()
        while budget.first.acquire(blocking=False):  # until it waits
            budget.first.release()
        small = threading.Thread(target=work, args=(1,))
        small.start()
        assert order == []
    large.join(1800)
    small.join(1800)
    assert order == [(500, 0), (1, 99)]


def test_what_was_claimed_comes_back_after_an_error() -> None:
    budget = Budget(10)
    try:
        with budget.claim(10):
            raise OSError
    except OSError:
        pass
    assert budget.free == 10
