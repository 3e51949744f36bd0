"""A number of bytes that threads share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """Bytes of memory that threads take for a while, not more together than there are."""

    def __init__(self, total: int) -> None:
        self.total = self.free = total
        self.first = threading.Lock()  # held by the claim that comes next, so that a large one is not passed for ever
        self.changed = threading.Condition()

    @contextmanager
    def claim(self, size: int) -> Iterator[None]:
        """Hold so many bytes in a `with` block, waiting for them; who wants more than the total goes alone."""
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
