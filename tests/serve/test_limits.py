"""What docs/serve.md promises under "How much they may ask", a test or more for each sentence."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
import zlib

import pytest
from damage import samples
from PIL import Image
from serving import BEARER, CHELSEA, COFFEE, PATIENCE, TOKEN, Running, form, running

from capcli.captioner import Captioner
from capcli.serve import api, bodies, limits
from capcli.serve import server as serving_room
from capcli.serve.api import Api
from capcli.serve.costs import cost_of_reading
from capcli.serve.limits import Gate, Holding, Refusal

# Limits of size, pixels, files, number and time.


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Running) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.putrequest("POST", "/v1/caption")
    connection.putheader("Authorization", BEARER["Authorization"])
    connection.putheader("Content-Length", str(limits.MAX_BODY + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert server.api.gate.bytes == 0


def test_a_body_that_does_not_say_how_large_it_is(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BODY", 100_000)
    pieces = iter([b"x" * 50_000] * 4)
    answer = server.ask("/v1/caption", pieces)
    assert (answer.status, answer.json) == (413, {"error": "more than 100,000 bytes"})
    assert server.api.gate.bytes == 0


def test_bodies_share_a_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES", 100)
    gate = Gate()
    with Holding(gate) as first, Holding(gate) as second:
        first.hold(60)
        first.hold(50)  # which it holds already
        second.hold(40)
        with pytest.raises(Refusal) as refused:
            second.hold(41)
        assert refused.value.status_code == 503
        assert refused.value.headers == {"Retry-After": "2"}
    assert gate.bytes == 0


def test_more_pixels_than_the_limit(tiny_captioner: Captioner) -> None:
    with running(Api(tiny_captioner, Gate(), max_pixels=1000)) as server:
        answer = server.ask("/v1/caption", COFFEE)
        assert answer.status == 413
        assert "more than the limit of 1,000" in answer.json[0]["error"]
        assert server.ask("/v1/attention", COFFEE).status == 413
        small = io.BytesIO()
        Image.new("RGB", (20, 20)).save(small, "PNG")
        mixed = server.ask("/v1/caption", *form(("a", COFFEE), ("b", small.getvalue())))
        assert mixed.status == 200
        assert ["error" in row for row in mixed.json] == [True, False]


def test_a_bomb_is_refused_by_its_header(server: Running) -> None:
    header = samples()["BMP"]
    bomb = header[:18] + (60000).to_bytes(4, "little") * 2 + header[26:]
    assert server.ask("/v1/caption", bomb).status == 413
    assert server.ask("/v1/explain?sentence=a", bomb).status == 413


def test_too_many_requests(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REQUESTS_OF_ONE", 2)
    gate = server.api.gate
    with gate.request("127.0.0.1"), gate.request("127.0.0.1"):
        answer = server.ask("/v1/caption", COFFEE)
        assert (answer.status, answer.headers["retry-after"]) == (429, "2")
        assert server.ask("/health").status == 200
    monkeypatch.setattr(limits, "MAX_REQUESTS", 1)
    with gate.request("another"):
        answer = server.ask("/v1/caption", COFFEE)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert server.ask("/v1/caption", COFFEE).status == 200
    for _ in range(1000):  # a request is over shortly after its answer has come
        if not gate.requests:
            break
        assert server.ask("/health").status == 200
    assert not gate.requests


def test_too_many_images(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAITING", 2)
    assert server.ask("/v1/caption", *form(("a", COFFEE), ("b", COFFEE))).status == 200
    assert server.ask("/v1/caption", *form(("a", COFFEE), ("b", COFFEE), ("c", COFFEE))).status == 503
    assert server.api.gate.images == 0


def huge_icon() -> bytes:
    """What says that it is small, and holds a PNG that is not."""
    png = huge_png()
    entry = bytes([16, 16, 0, 0]) + (1).to_bytes(2, "little") + (32).to_bytes(2, "little")
    return b"\0\0\1\0\1\0" + entry + len(png).to_bytes(4, "little") + (22).to_bytes(4, "little") + png


def huge_png() -> bytes:
    """What says that it has 88 megapixels; most of them would never come."""
    png = samples()["PNG"]
    head = b"IHDR" + (9400).to_bytes(4) * 2 + png[24:29]
    return png[:12] + head + zlib.crc32(head).to_bytes(4) + png[33:]


@pytest.mark.parametrize(
    ("query", "number", "image"),
    [
        ("", 64, huge_png()),
        ("", 64, huge_icon()),
        ("num=20&beam=50&max_length=100", 64, CHELSEA),
        ("num=20&sample&max_length=100", 64, CHELSEA),
    ],
    ids=["pixels", "icons", "beams", "draws"],
)
def test_more_work_than_a_request_may_ask_for_is_refused_before_it_begins(
    server: Running, monkeypatch: pytest.MonkeyPatch, query: str, number: int, image: bytes
) -> None:
    begun: list[object] = []
    monkeypatch.setattr(server.api.batches, "submit", begun.append)
    answer = server.ask(f"/v1/caption?{query}", *form(*[(f"{i}.jpg", image) for i in range(number)]))
    assert (answer.status, answer.json["error"].partition(":")[0]) == (413, "too much work for one request")
    assert begun == []
    assert (server.api.gate.bytes, server.api.gate.images, server.api.gate.cost) == (0, 0, 0)


def test_what_one_image_may_ask_for(server: Running) -> None:
    assert server.ask("/v1/caption?num=20&beam=50&max_length=100", CHELSEA).status == 200
    assert server.ask("/v1/caption", *form(*[(f"{i}.jpg", CHELSEA) for i in range(64)])).status == 200
    long = "sentence=" + "a+" * 500
    assert server.ask(f"/v1/explain?{long}", CHELSEA).status == 200
    assert server.ask("/v1/explain", *form(("a", CHELSEA), fields=[("sentence", "a " * 500)] * 64)).status == 413


def test_nouns_cost_what_is_tried_in_their_place() -> None:
    assert cost_of_reading(["the the the"]) < cost_of_reading(["the dog the"]) < 100
    assert cost_of_reading(["dog " * 250] * 64) > limits.MAX_COST


def test_too_much_work_at_a_time(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_COSTS", 1000)
    with server.api.gate.work(1000):
        for path in ("/v1/caption", "/v1/explain?sentence=a"):
            answer = server.ask(path, COFFEE)
            assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    assert server.ask("/v1/caption", COFFEE).status == 200
    assert server.api.gate.cost == 0


def test_explaining_has_the_same_limit_of_pixels(tiny_captioner: Captioner) -> None:
    with running(Api(tiny_captioner, Gate(), max_pixels=1000)) as server:
        assert server.ask("/v1/explain?sentence=a", COFFEE).status == 413


# Those who are in find a place, whatever others do.


@pytest.mark.parametrize("length", [100, 60_000_000])
def test_bodies_of_strangers_take_no_place_of_others(server: Running, length: int) -> None:
    head = f"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nt"
    with contextlib.ExitStack() as held:
        for _ in range(limits.MAX_REQUESTS_OF_ONE + 4):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE))
            slow.sendall(head.encode())
        assert server.ask("/v1/caption", COFFEE).status == 200
        assert server.api.gate.bytes == 0
        assert server.ask("/", headers=None).status == 401  # which asks for the token
        assert server.ask("/login", f"token={TOKEN}", {"Origin": server.address}).status == 200


def test_a_form_for_the_token_is_small(server: Running) -> None:
    for body in ("token=" + "x" * limits.MAX_LOGIN, iter([b"x" * 3000] * 2)):
        assert server.ask("/login", body, {"Origin": server.address}).status == 413


def test_a_strangers_slow_form_is_cut_off(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_room, "STRANGER_SECONDS", 0.05)
    monkeypatch.setattr(serving_room, "TICK", 0.02)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nt")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1000) == b""


def test_a_slow_body_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.05)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.putrequest("POST", "/v1/caption")
    connection.putheader("Authorization", BEARER["Authorization"])
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"only this")
    assert connection.getresponse().status == 408
    connection.close()
    assert server.api.gate.bytes == 0


def test_a_body_that_trickles_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        head = f"POST /v1/caption HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"{head}Content-Length: 100000\r\n\r\n".encode())
        connection.settimeout(0.01)
        answer = None
        while answer is None:
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
            if answer is None:
                connection.sendall(b"x")
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_answer_that_takes_too_long_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "ANSWER_SECONDS", 0.05)
    go_on = threading.Event()
    monkeypatch.setattr(Captioner, "caption_pixels", lambda *_: go_on.wait(PATIENCE) and [])
    try:
        answer = server.ask("/v1/caption", COFFEE)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
    finally:
        go_on.set()
    assert server.api.gate.images == 0
