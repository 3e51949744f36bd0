"""Connections: those who are in find a place, whatever others do."""

from __future__ import annotations

import contextlib
import http.client
import socket

import pytest
from serving import BEARER, COFFEE, PATIENCE, TOKEN, Running

from capcli.serve import limits
from capcli.serve import server as serving_room


def test_idle_connections_do_not_lock_anybody_out(server: Running) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(limits.MAX_CONNECTIONS + limits.MAX_STRANGERS + 4):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
        assert server.ask("/v1/caption", COFFEE).status == 200
        assert server.ask("/login", f"token={TOKEN}", {"Origin": server.address}).status == 200


def test_a_connection_of_somebody_who_is_in_makes_no_way(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.connect()
    ours = connection.sock
    with contextlib.ExitStack() as held:
        for _ in range(3):
            connection.request("POST", "/v1/caption", COFFEE, BEARER)
            assert connection.getresponse().read()
            for _ in range(limits.MAX_STRANGERS + 4):
                held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            assert server.ask("/health").status == 200
        assert connection.sock is ours  # not a new one
    connection.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: loc", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nG"]
)
def test_a_connection_without_a_request_is_cut_off(
    server: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(serving_room, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(serving_room, "TICK", 0.02)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1000):
                pass
