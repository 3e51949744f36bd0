"""Working ahead in threads: LookAhead opens items, and Workers work on ready batches side by side."""

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

# Threads that may be in C code end before the interpreter does: it stops those still running, and with C++ below them
# that aborts the process. They are daemons nevertheless, as the interpreter waits for others before asking anybody to
# close them.
FULL_BATCH_TIMEOUT = 0.5  # seconds to wait for a full batch if a smaller one is ready
LAST_WAIT = 1.0  # seconds for idle threads to end; one held up by a disk is left behind
EXIT_WAIT = 60.0  # the same at the interpreter's end: longer than any image takes, but a disk may hang for ever
THREADS = min(32, (os.cpu_count() or 1) + 4)  # more than cores, since some wait for the disk


class LookAhead(Generic[T, R]):
    """Call a function on items ahead of time, giving results in batches, almost in order.

    A batch has whatever is ready, so that a slow item holds up neither later ones nor the caller. Few items wait for
    the function at a time, as they may be large.
    """

    # In daemon threads, so that a hanging disk cannot keep the program from ending.

    def __init__(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        limit: int,
        in_order: bool = False,
        patience: float | None = None,
    ) -> None:
        """Start reading items and calling the function.

        function: called with each item, in several threads.
        items: read in one thread.
        limit: items, 1 or more, that may be read before their `release`.
        in_order: whether each batch has exactly the next items, however long they take, so that batches are always the
            same.
        patience: seconds to wait for a full batch if a smaller one is ready; None takes FULL_BATCH_TIMEOUT.
        """
        self.function, self.in_order = function, in_order
        self.patience = FULL_BATCH_TIMEOUT if patience is None else patience
        self.slots = threading.Semaphore(limit)
        self.tasks: SimpleQueue[tuple[int, T] | None] = SimpleQueue()
        self.changed = threading.Condition()
        self.done: dict[int, R | Exception] = {}
        self.listed = self.handed_out = 0
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
                self.slots.acquire()  # first, so that no item is read without room for it
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
        """Call the function on items until none are left. Runs in several threads."""
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
        """Return a batch of (item's index, result or exception), lowest index first; empty at the end.

        count: at most, 1 or more; they are waited for, but unless in_order, no longer than `patience` after the first.

        Raises what reading the items raised, once all earlier results are taken.
        """
        with self.changed:
            self.changed.wait_for(lambda: self.ready(count if self.in_order else 1))
            self.changed.wait_for(lambda: self.ready(count), self.patience)
            batch = [(index, self.done.pop(index)) for index in sorted(self.done)[:count]]
            self.handed_out += len(batch)
            if not batch and self.failure:
                raise self.failure
        return batch

    def ready(self, count: int) -> bool:
        """Return whether count results, or all that are left, can be taken; with in_order, the next ones."""
        if self.in_order:
            here = next(i for i in itertools.count(self.handed_out) if i not in self.done) - self.handed_out
        else:
            here = len(self.done)
        return self.closed or here >= count or (self.complete and self.listed == self.handed_out + here)

    def release(self, count: int) -> None:
        """Allow count more items to be read."""
        for _ in range(count):
            self.slots.release()

    def close(self) -> None:
        """Let the threads end, and `take` return at once.

        Threads that can end within LAST_WAIT have then ended; others are waited for when the interpreter ends.
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
        """Close, and wait for the function's threads; reading items may wait for ever."""
        self.close()
        self.join(self.threads[1:], EXIT_WAIT)

    @staticmethod
    def join(threads: Sequence[threading.Thread], seconds: float) -> bool:
        """Wait for all threads together, and return whether they have ended."""
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)


def ahead(function: Callable[[T], R], items: Iterable[T], limit: int) -> Iterator[R]:
    """Yield a function's results in the order of items, while threads work on the next few.

    function: called with each item, in several threads.
    items: read in one thread.
    limit: items, 1 or more, ahead of what was yielded.

    Raises an item's error, from the function or from reading, in its turn.
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
    """Work on batches in several threads, each taking one batch after another.

    Iterating gives results in the order of items, in lists as they become known, and releases the items.

    The first batch has one item, so that its result comes soon; batches then double up to batch_size. An exception in a
    thread is raised after the results of all batches begun.
    """

    def __init__(
        self,
        threads: int,
        ahead: LookAhead[Any, R],
        batch_size: int,
        work: Callable[[list[R | Exception]], Sequence[S]],
    ) -> None:
        """Start the threads.

        threads: batches worked on side by side, 1 or more.
        ahead: gives the batches.
        batch_size: at most, 1 or more.
        work: returns a result per member of a batch, an item's outcome or exception.
        """
        self.ahead, self.batch_size, self.work = ahead, batch_size, work
        self.count = 1
        self.taking = threading.Lock()
        self.results: SimpleQueue[dict[int, S] | None] = SimpleQueue()  # by index; None: a thread has ended
        self.failure: BaseException | None = None
        self.closed = False
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        atexit.register(self.close)
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        """Work on batches until none are left. Runs in each thread."""
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
        waiting: dict[int, S] = {}  # for an earlier item's result
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
        """End the threads, each after its current batch."""
        self.closed = True
        self.ahead.close()
        for thread in self.threads:
            thread.join()
        atexit.unregister(self.close)


class Aside:
    """Call a function once, in its own thread, if wanted at all."""

    def __init__(self, function: Callable[[], object]) -> None:
        """Prepare. function: called by `start`."""
        self.thread = threading.Thread(target=function, daemon=True)
        self.lock = threading.Lock()
        self.done = False  # whether it is too late to start
        atexit.register(self.close)

    def start(self) -> None:
        """Start the thread, unless started or closed already."""
        with self.lock:
            if not self.done:
                self.done = True
                self.thread.start()

    def close(self) -> None:
        """Wait for the thread, if started."""
        with self.lock:
            self.done = True
        if self.thread.ident is not None:
            self.thread.join()
        atexit.unregister(self.close)
