"""Items worked on ahead, in threads: LookAhead opens them, Workers takes what is ready in batches, side by side."""

from __future__ import annotations

import atexit
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

PATIENCE = 0.5  # seconds that a full batch is waited for when part of one could be computed
THREADS = min(32, (os.cpu_count() or 1) + 4)  # more than cores: some wait for the disk


class LookAhead(Generic[T, R]):
    """Results of function(item), taken in batches in almost the order of the items.

    A batch is what is ready: one slow item holds up neither the items after it nor whoever takes them. With in_order
    batches are the same every time: each has the next items, however long they take. At most `limit` items are under
    way between the source and `release`, and few of them wait for the function, as they may be large. The source
    is read, and the function called, in daemon threads, so that a hung disk cannot keep the program from ending.
    """

    def __init__(self, function: Callable[[T], R], items: Iterable[T], limit: int, in_order: bool = False) -> None:
        self.function, self.in_order = function, in_order
        self.slots = threading.Semaphore(limit)
        self.tasks: SimpleQueue[tuple[int, T] | None] = SimpleQueue()
        self.changed = threading.Condition()
        self.done: dict[int, R | Exception] = {}
        self.listed = self.taken = 0
        self.complete = self.closed = False
        self.failure: BaseException | None = None
        self.threads = min(THREADS, limit)
        self.waiting = threading.Semaphore(self.threads)
        threading.Thread(target=self.read, args=(iter(items),), daemon=True).start()
        for _ in range(self.threads):
            threading.Thread(target=self.work, daemon=True).start()

    def read(self, items: Iterator[T]) -> None:
        """Thread: number the items and hand them to the workers as slots become free."""
        try:
            while True:
                self.slots.acquire()  # first, so that no item is read before it is wanted
                self.waiting.acquire()
                if self.closed:
                    return
                item = next(items)
                with self.changed:
                    index, self.listed = self.listed, self.listed + 1
                self.tasks.put((index, item))
        except StopIteration:
            pass
        except BaseException as error:  # for whoever takes the results
            self.failure = error
        with self.changed:
            self.complete = True
            self.changed.notify_all()

    def work(self) -> None:
        """Thread: call the function."""
        while (task := self.tasks.get()) is not None and not self.closed:
            index, item = task
            self.waiting.release()
            try:
                result: R | Exception = self.function(item)
            except Exception as error:  # belongs to the item; take() hands it on
                result = error
            with self.changed:
                self.done[index] = result
                self.changed.notify_all()

    def take(self, count: int) -> list[tuple[int, R | Exception]]:
        """Up to count of (number of the item, result or exception), lowest numbers first; empty at the end.

        Waits for `count` results, but no longer than PATIENCE once there is one. Raises what the source raised, after
        the results for everything before.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.ready(count if self.in_order else 1))
            self.changed.wait_for(lambda: self.ready(count), PATIENCE)
            batch = [(index, self.done.pop(index)) for index in sorted(self.done)[:count]]
            self.taken += len(batch)
            if not batch and self.failure:
                raise self.failure
        return batch

    def ready(self, count: int) -> bool:
        """Whether count results are there, or all that will ever be taken; in order, whether the next ones are."""
        if self.in_order:
            here = next(i for i in itertools.count(self.taken) if i not in self.done) - self.taken
        else:
            here = len(self.done)
        return self.closed or here >= count or (self.complete and self.listed == self.taken + here)

    def release(self, count: int) -> None:
        """Let as many items more be read."""
        for _ in range(count):
            self.slots.release()

    def close(self) -> None:
        """Let the threads end, and `take` no longer wait."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.slots.release()
        self.waiting.release()
        for _ in range(self.threads):
            self.tasks.put(None)


class Workers(Generic[R, S]):
    """Threads that each take a batch, work on it, and take the next; iterating gives results as they come.

    The first batch has one item, the following ones twice as many as the one before, up to batch_size. What goes wrong
    in a thread is raised after the results of batches that were begun.
    """

    def __init__(
        self,
        threads: int,
        ahead: LookAhead[Any, R],
        batch_size: int,
        work: Callable[[list[tuple[int, R | Exception]]], S],
    ) -> None:
        self.ahead, self.batch_size, self.work = ahead, batch_size, work
        self.count = 1
        self.taking = threading.Lock()
        self.results: SimpleQueue[tuple[S] | None] = SimpleQueue()  # None: a thread has ended
        self.failure: BaseException | None = None
        self.closed = False
        # Daemons, or a program that has not read its stream to the end would never finish; but the interpreter must not
        # end while one of them computes.
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        atexit.register(self.close)
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        """Thread."""
        try:
            while not self.closed:
                with self.taking:
                    batch = self.ahead.take(self.count)
                    self.count = min(2 * self.count, self.batch_size)
                if not batch or self.closed:
                    break
                self.results.put((self.work(batch),))
        except BaseException as error:  # for whoever takes the results
            self.failure = error
            self.closed = True
        self.results.put(None)

    def __iter__(self) -> Iterator[S]:
        running = len(self.threads)
        while running:
            result = self.results.get()
            if result is None:
                running -= 1
            else:
                yield result[0]
        if self.failure:
            raise self.failure

    def close(self) -> None:
        """End the threads, each after the batch that it is at."""
        self.closed = True
        self.ahead.close()
        for thread in self.threads:
            thread.join()
        atexit.unregister(self.close)
