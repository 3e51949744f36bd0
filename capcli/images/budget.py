"""A memory budget shared by threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Lend bytes of memory to threads, never more than a total at once.

    total: bytes to lend.
    free: bytes nobody has.
    """

    def __init__(self, total: int) -> None:
        """Make a budget, all free. total: bytes, 1 or more."""
        self.total = self.free = total
        self.first = threading.Lock()  # held by the next claim in line, so that small ones cannot starve it
        self.changed = threading.Condition()

    @contextmanager
    def claim(self, size: int) -> Iterator[None]:
        """Wait for memory, and hold it for a `with` block.

        size: bytes, 0 or more. More than the total waits until all is free, and so runs alone.
        """
        size = min(size, self.total)
        with self.first, self.changed:
            self.changed.wait_for(lambda: self.free >= size)
            self.free -= size
        try:
            yield
        finally:
            with self.changed:
                self.free += size
                self.changed.notify()
