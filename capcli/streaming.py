"""Working ahead in threads: LookAhead opens items, and Workers work on batches of what is ready, side by side.

Threads that may be in C code have ended before the interpreter does: it stops those that still run, and where there is
C++ below them that aborts the process. They are daemons all the same, as the interpreter waits for others before
anybody is asked to close them.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

FULL_BATCH_TIMEOUT = 0.5  # seconds to wait for a full batch if a smaller one is ready
LAST_WAIT = 1.0  # seconds for threads to end in that have nothing more to do; one that a disk holds up is left behind
EXIT_WAIT = 60.0  # the same when the interpreter ends: longer than any image takes, but a disk may hang for ever
THREADS = min(32, (os.cpu_count() or 1) + 4)  # more than there are cores, since some wait for the disk


class LookAhead(Generic[T, R]):
    """Call a function on items ahead of time, and give out the results in batches, almost in the order of the items.

    A batch has whatever is ready, so that one slow item holds up neither the items after it nor the caller. Only a few
    of the items that are read wait for the function at any time, as they may be large. Items are read, and the function
    is called, in daemon threads, so that a disk that hangs cannot keep the program from ending.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        limit: int,
        in_order: bool = False,
        patience: float | None = None,
    ) -> None:
        """Start reading items and calling the function.

        function: is called with each item, in several threads at a time.
        items: are read in one thread.
        limit: how many items, 1 or more, may be read before `release` is called for them.
        in_order: whether each batch has exactly the next items, however long they take, so that batches are the same
            every time.
        patience: seconds to wait for a full batch if a smaller one is ready; None takes FULL_BATCH_TIMEOUT.
        """
        self.function, self.in_order = function, in_order
        self.patience = FULL_BATCH_TIMEOUT if patience is None else patience
        self.slots = threading.Semaphore(limit)
        self.tasks: SimpleQueue[tuple[int, T] | None] = SimpleQueue()
        self.changed = threading.Condition()
        self.done: dict[int, R | Exception] = {}
        self.listed = self.taken = 0
        self.complete = self.closed = False
        self.failure: BaseException | None = None
        working = min(THREADS, limit)
        self.waiting = threading.Semaphore(working)
        self.threads = [threading.Thread(target=self.read, args=(iter(items),), daemon=True)]
        self.threads += [threading.Thread(target=self.work, daemon=True) for _ in range(working)]
        atexit.register(self.end)
        for thread in self.threads:
            thread.start()

    def read(self, items: Iterator[T]) -> None:
        """Number the items, and pass them on as slots become free. Runs in a thread."""
        try:
            while True:
                self.slots.acquire()  # first, so that no item is read before there is room for it
                self.waiting.acquire()
                if self.closed:
                    return
                item = next(items)
                with self.changed:
                    index, self.listed = self.listed, self.listed + 1
                self.tasks.put((index, item))
        except StopIteration:
            pass
        except BaseException as error:  # raised in take()
            self.failure = error
        with self.changed:
            self.complete = True
            self.changed.notify_all()

    def work(self) -> None:
        """Call the function on items until there are no more. Runs in several threads."""
        while (task := self.tasks.get()) is not None and not self.closed:
            index, item = task
            self.waiting.release()
            try:
                result: R | Exception = self.function(item)
            except Exception as error:  # take() returns it as the item's result
                result = error
            with self.changed:
                self.done[index] = result
                self.changed.notify_all()

    def take(self, count: int) -> list[tuple[int, R | Exception]]:
        """Return a batch of (index of the item, result or exception), lowest index first; empty at the end.

        count: the most results to return, 1 or more. They are waited for, but unless in_order is set, for no longer
            than `patience` after the first.

        Raises whatever reading the items raised, once the results of all items before have been taken.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.ready(count if self.in_order else 1))
            self.changed.wait_for(lambda: self.ready(count), self.patience)
            batch = [(index, self.done.pop(index)) for index in sorted(self.done)[:count]]
            self.taken += len(batch)
            if not batch and self.failure:
                raise self.failure
        return batch

    def ready(self, count: int) -> bool:
        """Return whether count results can be taken, or all that are left; with in_order, only the next ones count."""
        if self.in_order:
            here = next(i for i in itertools.count(self.taken) if i not in self.done) - self.taken
        else:
            here = len(self.done)
        return self.closed or here >= count or (self.complete and self.listed == self.taken + here)

    def release(self, count: int) -> None:
        """Allow count more items to be read."""
        for _ in range(count):
            self.slots.release()

    def close(self) -> None:
        """Let the threads end, and `take` return without waiting.

        Threads that can end within LAST_WAIT have ended then; the others are waited for when the interpreter ends.
        """
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self.slots.release()
        self.waiting.release()
        for _ in self.threads:
            self.tasks.put(None)
        if self.join(self.threads, LAST_WAIT):
            atexit.unregister(self.end)

    def end(self) -> None:
        """Close, and wait for the threads that call the function; the items may be of a kind that waits for ever."""
        self.close()
        self.join(self.threads[1:], EXIT_WAIT)

    @staticmethod
    def join(threads: Sequence[threading.Thread], seconds: float) -> bool:
        """Wait for threads together, and return whether all have ended."""
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def ahead(function: Callable[[T], R], items: Iterable[T], limit: int) -> Iterator[R]:
    """Yield what a function makes of items, in their order, while threads work on the next few.

    function: is called with each item, in several threads at a time.
    items: are read in one thread.
    limit: how many items, 1 or more, may be ahead of what was yielded.

    Raises what the function or reading the items raised, when the turn of that item comes.
    """
    looking = LookAhead(function, items, limit, in_order=True)
    try:
        while batch := looking.take(1):
            _, result = batch[0]
            if isinstance(result, Exception):
                raise result
            yield result
            looking.release(1)
    finally:
        looking.close()


class Workers(Generic[R, S]):
    """Work on batches in several threads, each of which takes one batch after the other.

    Iterating gives the results in the order of the items, in lists of those that are known at a time; the items are
    released as their results are given out.

    The first batch has one item, so that its result comes soon; each further batch has twice as many as the one before,
    up to batch_size. An exception in a thread is raised after the results of all batches that were begun.
    """

    def __init__(
        self,
        threads: int,
        ahead: LookAhead[Any, R],
        batch_size: int,
        work: Callable[[list[R | Exception]], Sequence[S]],
    ) -> None:
        """Start the threads.

        threads: how many batches are worked on side by side, 1 or more.
        ahead: gives out the batches.
        batch_size: the most items in a batch, 1 or more.
        work: returns a result for each of a batch: of what was made of an item, or the exception.
        """
        self.ahead, self.batch_size, self.work = ahead, batch_size, work
        self.count = 1
        self.taking = threading.Lock()
        self.results: SimpleQueue[dict[int, S] | None] = SimpleQueue()  # by index; None says that a thread has ended
        self.failure: BaseException | None = None
        self.closed = False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        atexit.register(self.close)
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        """Take batches and work on them until there are no more. Runs in each thread."""
        try:
            while not self.closed:
                with self.taking:
                    batch = self.ahead.take(self.count)
                    self.count = min(2 * self.count, self.batch_size)
                if not batch or self.closed:
                    break
                indices, items = zip(*batch, strict=True)
                self.results.put(dict(zip(indices, self.work(list(items)), strict=True)))
        except BaseException as error:  # raised in __iter__()
            self.failure = error
            self.closed = True
        self.results.put(None)

    def __iter__(self) -> Iterator[list[S]]:
        running = len(self.threads)
        waiting: dict[int, S] = {}  # for the result of an item before theirs
        given = 0
        while running:
            found = self.results.get()
            if found is None:
                running -= 1
                continue
            waiting |= found
            ready = []
            while given in waiting:
                ready.append(waiting.pop(given))
                given += 1
            self.ahead.release(len(ready))
            if ready:
                yield ready
        if self.failure:
            raise self.failure

    def close(self) -> None:
        """End the threads, each after the batch that it is working on."""
        self.closed = True
        self.ahead.close()
        for thread in self.threads:
            thread.join()
        atexit.unregister(self.close)


class Aside:
    """Call a function once, in a thread of its own, if it is wanted at all."""

    def __init__(self, function: Callable[[], object]) -> None:
        """Prepare. function: is called by `start`."""
        self.thread = threading.Thread(target=function, daemon=True)
        self.lock = threading.Lock()
        self.done = False  # whether it is too late to start, or too early to start again
        atexit.register(self.close)

    def start(self) -> None:
        """Start the thread, unless that was done or it is closed."""
        with self.lock:
            if not self.done:
                self.done = True
                self.thread.start()

    def close(self) -> None:
        """Wait for the thread, if it was started."""
        with self.lock:
            self.done = True
        if self.thread.ident is not None:
            self.thread.join()
        atexit.unregister(self.close)
