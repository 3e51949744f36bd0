"""Limits on a request's size, number and time, and the refusals beyond them."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator

from starlette.exceptions import HTTPException

MAX_BODY = 64_000_000  # bytes of one request
MAX_BODIES = 400_000_000  # bytes of all requests in progress; a form briefly takes twice its size
MAX_FILES = 64  # images of one request
MAX_WAITING = 512  # images of all requests
MAX_REQUESTS = 128  # in progress
MAX_REQUESTS_OF_ONE = 96  # of one address
MAX_CONNECTIONS = 256  # from those let in
MAX_STRANGERS = 32  # connections of others; the oldest makes way for a new one
STRANGER_SECONDS = 10  # for such a connection to send a request, and again to be done with it
MAX_LOGIN = 4096  # bytes of the login form
MAX_SENTENCES, MAX_TEXT = 64, 1000  # of one request; characters of a sentence
PAUSE_SECONDS = 10  # for the next piece of a body
BODY_SECONDS = 120  # for the whole body
HEAD_SECONDS = 20  # for a request's head
ANSWER_SECONDS = 60  # for captions
REQUEST_SECONDS = HEAD_SECONDS + BODY_SECONDS + 2 * ANSWER_SECONDS  # before a connection is dropped
MAX_COST = 30_000  # milliseconds of a core for one request; see `costs`
MAX_COSTS = 1000 * ANSWER_SECONDS * (os.cpu_count() or 1)  # for all together: more would wait in vain
RETRY = {"Retry-After": "2"}


class Refusal(HTTPException):
    """Refuse a request with a line of JSON that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason, RETRY if status in (429, 503) else None)


class Gate:
    """Count the work in progress, and refuse what is too much.

    bytes, images, cost: totals over all requests.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.bytes = self.images = self.cost = 0

    @contextlib.contextmanager
    def request(self, client: str) -> Iterator[None]:
        """Admit a request for the `with` block. client: its address. Raises Refusal."""
        if self.requests[client] >= MAX_REQUESTS_OF_ONE:
            raise Refusal(429, f"more than {MAX_REQUESTS_OF_ONE} requests from one address at a time")
        if self.requests.total() >= MAX_REQUESTS:
            raise Refusal(503, "busy: too many requests at a time")
        self.requests[client] += 1
        try:
            yield
        finally:
            self.requests[client] -= 1
            if not self.requests[client]:
                del self.requests[client]

    @contextlib.contextmanager
    def some_images(self, number: int) -> Iterator[None]:
        """Admit images for the `with` block. number: 0 or more. Raises Refusal."""
        if self.images + number > MAX_WAITING:
            raise Refusal(503, "busy: too many images are waiting for their captions")
        self.images += number
        try:
            yield
        finally:
            self.images -= number

    @contextlib.contextmanager
    def work(self, cost: int) -> Iterator[None]:
        """Admit work for the `with` block. cost: of it all, in milliseconds. Raises Refusal."""
        if cost > MAX_COST:
            raise Refusal(
                413, "too much work for one request: send fewer images or smaller ones, or ask for less of each"
            )
        if self.cost + cost > MAX_COSTS:
            raise Refusal(503, "busy: too much work is waiting")
        self.cost += cost
        try:
            yield
        finally:
            self.cost -= cost


class Holding:
    """Hold memory for one request's body in a `with` block."""

    def __init__(self, gate: Gate, most: int | None = None) -> None:
        """Hold nothing yet.

        gate: knows what all requests hold.
        most: bytes allowed for this one; None takes MAX_BODY.
        """
        self.gate, self.size = gate, 0
        self.most = MAX_BODY if most is None else most

    def hold(self, size: int) -> None:
        """Hold this many bytes in all. Raises Refusal."""
        if size > self.most:
            raise Refusal(413, f"more than {self.most:,} bytes")
        more = max(0, size - self.size)
        if self.gate.bytes + more > MAX_BODIES:
            raise Refusal(503, "busy: no memory for another upload")
        self.gate.bytes += more
        self.size += more

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.bytes -= self.size
        self.size = 0
