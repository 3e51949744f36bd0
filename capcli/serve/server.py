"""The server: sockets, dropping stalled connections, and the end."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from capcli.serve.limits import HEAD_SECONDS, MAX_CONNECTIONS, MAX_STRANGERS, REQUEST_SECONDS, STRANGER_SECONDS

TICK = 1.0  # seconds between looks at a connection
MAX_HEAD = 32_768  # bytes of a request's head


class Connection(H11Protocol):
    """Drop a connection that sends no request, or whose answer takes too long.

    uvicorn's own limit covers only silent ones. A connection is a stranger's until a request brings a token or cookie;
    strangers get few places, to leave room for others.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch, dropping the oldest stranger where there are too many."""
        super().connection_made(transport)
        self.is_in, self.made, self.app_state = False, self.loop.time(), {"let_in": self.let_in}
        strangers = [each for each in self.connections if not each.is_in]  # type: ignore[union-attr]
        if len(strangers) > MAX_STRANGERS:
            oldest = min(strangers, key=lambda each: each.made)  # type: ignore[union-attr]
            self.connections.discard(oldest)
            oldest.transport.abort()
        self.since, self.worked_on = self.loop.time(), None
        self.watch = self.loop.call_later(TICK, self.look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.watch.cancel()
        super().connection_lost(exc)

    def let_in(self) -> None:
        self.is_in = True

    def look(self) -> None:
        """Drop the connection if its request or its answer is overdue."""
        cycle: Any = self.cycle
        current = None if cycle is None or cycle.response_complete else cycle
        if current is not self.worked_on:
            self.since, self.worked_on = self.loop.time(), current
        limit = HEAD_SECONDS if current is None else REQUEST_SECONDS
        if self.loop.time() - self.since > (limit if self.is_in else min(limit, STRANGER_SECONDS)):
            self.transport.abort()
        else:
            self.watch = self.loop.call_later(TICK, self.look)


class Server(uvicorn.Server):
    """Serve, and announce the start."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], object]) -> None:
        super().__init__(config)
        self.on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call on_start."""
        await super().startup(sockets)
        self.on_start()


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that an address in use is known before a model is loaded.

    host: a name or address.
    port: 0 takes a free one.

    Raises OSError with a text for people.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:  # of the name
        raise OSError(error.errno, f"{host}: {(error.strerror or str(error)).lower()}") from None
    try:
        if hasattr(socket, "SO_REUSEADDR") and hasattr(socket, "SO_REUSEPORT"):  # not on Windows, where it means more
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(MAX_CONNECTIONS)
    except OSError as error:
        listening.close()
        more = "; choose another with --port" if error.errno == errno.EADDRINUSE else ""
        raise OSError(error.errno, f"{host}:{port}: {(error.strerror or str(error)).lower()}{more}") from None
    return listening


def make_server(app: ASGIApp, on_start: Callable[[], object] = lambda: None) -> Server:
    """Return a server; its `run` takes `listen`'s sockets and answers until a signal ends it.

    on_start: called once it answers.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)  # capcli prints what matters itself
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody can fake them
        limit_concurrency=MAX_CONNECTIONS + MAX_STRANGERS,
        timeout_keep_alive=HEAD_SECONDS,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    return Server(config, on_start)
