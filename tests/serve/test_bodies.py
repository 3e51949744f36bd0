"""What is sent: no addresses are fetched, there are no paths, and nothing makes the server fail."""

from __future__ import annotations

import os
import random
import socket

import pytest
from damage import damage, mutate, samples
from fakes import PHOTOS
from serving import BEARER, CHELSEA, COFFEE, PATIENCE, Running, form

from capcli.serve import bodies

MUTATIONS = 2000 if os.environ.get("CAPCLI_FULL_TESTS") else 160


def test_addresses_and_paths_are_not_images(server: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/a.jpg"
        for body in (address, str(PHOTOS / "coffee.jpg"), f'{{"url": "{address}"}}'):
            assert server.ask("/v1/caption", body).status == 422
        assert server.ask("/v1/caption", *form(("image", address.encode()))).status == 422
        assert server.ask("/v1/caption", *form(("a", COFFEE), fields={"url": address})).status == 400
        assert server.ask(f"/v1/caption?url={address}", b"").status == 400
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.timeout(max(1800, MUTATIONS))
def test_damaged_bodies_cost_an_error_each(server: Running) -> None:
    rng = random.Random(20)
    files = list(samples().values())
    forms = [form((f"{i}.jpg", file), fields={"num": "2"})[0] for i, file in enumerate(files)]
    in_form = BEARER | {"Content-Type": "multipart/form-data; boundary=limit"}
    statuses = []
    for seed in range(MUTATIONS):
        if rng.random() < 0.5:
            answer = server.ask("/v1/caption", mutate(seed, files))
        else:
            answer = server.ask("/v1/caption", damage(rng, forms), in_form)
        statuses.append(answer.status)
        assert answer.status in (200, 400, 413, 422), (seed, answer)
        assert b"Traceback" not in answer.body
    assert server.reports == []
    assert statuses.count(200) > MUTATIONS / 10
    assert server.ask("/v1/caption", COFFEE).status == 200
    assert (server.api.gate.bytes, server.api.gate.images) == (0, 0)


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'x' * 80}"],
)
def test_forms_without_a_boundary(server: Running, kind: str) -> None:
    assert server.ask("/v1/caption", form(("a", CHELSEA))[0], BEARER | {"Content-Type": kind}).status == 400


def test_a_form_that_is_cut_short(server: Running) -> None:
    body, headers = form(("a", CHELSEA))
    assert server.ask("/v1/caption", body[:-500], headers).status == 400


PART = b'--limit\r\nContent-Disposition: form-data; name="a"'


@pytest.mark.parametrize(
    "body",
    [
        PART + b"\r\n\r\n" + b"x" * 5000 + b"\r\n--limit--\r\n",
        (PART + b"\r\n\r\nx\r\n") * 200 + b"--limit--\r\n",
        PART + b"; x=" + b"y" * 100_000,
        PART + b"\r\nx: y" * 1000,
        b'--limit\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx\r\n--limit--\r\n',
        b"",
    ],
    ids=["a long field", "many fields", "a long head", "many heads", "no name", "nothing"],
)
def test_forms_beyond_their_limits(server: Running, body: bytes) -> None:
    answer = server.ask("/v1/caption", body, form()[1])
    assert answer.status == 400
    assert answer.json["error"]
    assert (server.reports, server.api.gate.bytes) == ([], 0)


@pytest.mark.parametrize("charset", ["undefined", "idna", "hex", "nothing", "utf-16"])
def test_forms_in_odd_encodings(server: Running, charset: str) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary=limit; charset={charset}"}
    assert server.ask("/v1/caption", form(("ä" * 80, CHELSEA))[0], BEARER | kind).status in (200, 400)
    assert server.reports == []


def test_files_of_forms_stay_in_memory(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    answer = server.ask("/v1/caption", *form(("a", CHELSEA + bytes(3_000_000))))
    assert answer.status == 200
    assert server.api.gate.bytes == 0


def test_a_form_that_trickles_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.05)
    body, headers = form(("a", CHELSEA))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST /v1/caption HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{head}\r\n"
        connection.sendall(head.encode() + body[:1000])
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    assert server.api.gate.bytes == 0


@pytest.mark.parametrize("query", ["%ff=%fe", "num=%00", "name=" + "x" * 5000, "&&&==", "num=" + "9" * 400])
def test_odd_queries(server: Running, query: str) -> None:
    assert server.ask(f"/v1/caption?{query}", COFFEE).status in (200, 400, 413)


def test_odd_requests(server: Running) -> None:
    for sent in (b"\0\0\0\0\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
            connection.sendall(sent)
            assert connection.recv(100)[9:12] in (b"400", b"421")
    assert server.reports == []
