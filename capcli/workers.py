"""Batches of what was computed ahead, worked on side by side in threads."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from capcli.lookahead import LookAhead

R = TypeVar("R")
S = TypeVar("S")


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
