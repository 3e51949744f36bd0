"""What docs/serve.md promises under "Who may ask" and "How much they may ask", a test or more for each sentence."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import random
import re
import socket
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from damage import damage, mutate, samples
from fakes import PHOTOS
from PIL import Image
from serving import BEARER, CHELSEA, COFFEE, PATIENCE, TOKEN, Running, form, running

from capcli.captioner import Captioner
from capcli.serve import api, bodies, limits
from capcli.serve import server as serving_room
from capcli.serve.access import Access
from capcli.serve.api import Api
from capcli.serve.costs import cost_of_reading
from capcli.serve.limits import Gate, Holding, Refusal

MUTATIONS = 2000 if os.environ.get("CAPCLI_FULL_TESTS") else 160


# Loopback unless --host, which needs a token.


def test_another_address_needs_a_token() -> None:
    command = [sys.executable, "-m", "capcli", "serve", "--host", "0.0.0.0", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "CAPCLI_TOKEN"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    line = "capcli: --host 0.0.0.0 needs --token TEXT, or CAPCLI_TOKEN in the environment\n"
    assert (done.returncode, done.stderr) == (2, line)
    done = subprocess.run([*command, "--token", "short"], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.startswith("capcli: --token: 16 characters or more")


def test_the_command_listens_on_the_loopback_and_its_address_works_once(tiny_files: Path) -> None:
    command = [sys.executable, "-m", "capcli", "serve", "--port", "0", "--model", str(tiny_files)]
    environment = os.environ | {"CAPCLI_TOKEN": TOKEN}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            port, once = re.findall(r"^capcli: open http://127\.0\.0\.1:(\d+)/\?token=(\S+) \(works once\)$", line)[0]
            here = Running(None, Access("127.0.0.1", int(port), TOKEN), int(port))  # type: ignore[arg-type]
            assert here.ask("/v1/caption", COFFEE).status == 200
            if Path("/proc/net/tcp").exists():
                listening = re.findall(rf": (\w+):{int(port):04X} 0+:0000 0A", Path("/proc/net/tcp").read_text())
                assert listening == ["0100007F"]
            assert here.ask(f"/?token={once}", headers=None, method="HEAD").status == 403  # as link previews ask
            first = here.ask(f"/?token={once}", headers=None)
            assert first.status == 200
            cookie = first.headers["set-cookie"].partition(";")[0]
            assert here.ask(f"/?token={once}", headers=None).status == 403
            assert here.ask("/", headers={"Cookie": cookie}).status in (200, 303)
        finally:
            process.terminate()
        assert process.stderr.read() == "capcli: interrupted\n"  # a token that was given is not shown
    assert process.returncode == 128 + 15


@pytest.mark.skipif(os.name == "nt", reason="the browser that is opened here is a shell script")
def test_no_command_is_given_the_address_that_lets_in(tiny_files: Path, tmp_path: Path) -> None:
    """Every user of a machine can read what commands were given."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    script = f'exec > {seen}\necho "$1"\npage="${{1#file://}}"\ncat "$page"\nls -ld "$(dirname "$page")"\n'
    browser.write_text(f"#!/bin/sh\n{script}")
    browser.chmod(0o755)
    command = [sys.executable, "-m", "capcli", "serve", "--open", "--port", "0", "--model", str(tiny_files)]
    environment = os.environ | {"CAPCLI_TOKEN": TOKEN, "BROWSER": f"{browser} %s"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        address = re.findall(r"open (\S+) \(works once\)", process.stderr.readline())[0]
        port = int(re.findall(r":(\d+)/", address)[0])
        here = Running(None, Access("127.0.0.1", port, TOKEN), port)  # type: ignore[arg-type]
        assert here.ask("/health").status == 200  # which is answered once the browser has been started
        process.terminate()
        assert process.stderr.read() == "capcli: interrupted\n"
    given, page, folder = seen.read_text().splitlines()
    assert given.startswith("file:///")
    assert "token" not in given
    assert f'content="0; url={address}"' in page
    assert folder.startswith("drwx------")
    assert not Path(given.removeprefix("file://")).parent.exists()


def test_without_a_token_nothing_is_told(server: Running) -> None:
    for path in ("/v1/caption", "/v1/explain?sentence=a", "/v1/attention"):
        for headers in (None, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": "capcli-1=x"}):
            answer = server.ask(path, COFFEE, headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert server.ask("/", headers=None).status == 401
    assert b'name="token"' in server.ask("/", headers=None).body


def test_the_token_can_be_typed(server: Running) -> None:
    wrong = server.ask("/login", "token=wrong", {"Origin": server.address})
    assert (wrong.status, "set-cookie" in wrong.headers) == (403, False)
    right = server.ask("/login", f"token={TOKEN}", {"Origin": server.address})
    assert right.status == 200
    assert right.headers["set-cookie"].startswith(f"capcli-{server.port}=")


@pytest.mark.parametrize(
    "other", ['a={"a":1}', "a=b c", 'a="b', "a=\xe9", "k[]=1", "m@il=1", "plain", "", "=", "capcli-{port}=another's"]
)
def test_cookies_of_other_programs_do_not_matter(server: Running, other: str) -> None:
    ours, others = server.cookie["Cookie"], other.format(port=server.port) if "port" in other else other
    for cookie in (f"{others}; {ours}", f"{ours}; {others}", f"{others};{ours};;{others}"):
        assert server.ask("/v1/caption", COFFEE, server.cookie | {"Cookie": cookie}).status == 200
    assert server.ask("/v1/caption", COFFEE, server.cookie | {"Cookie": others}).status == 401
    assert server.ask("/v1/caption", COFFEE, server.cookie | {"Cookie": f"x{ours}; {ours}x"}).status == 401


# Host and Origin are checked, there is no CORS, and the cookie is for this site only.


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "127.0.0.1.evil.example:80", "192.168.0.7", "[::2]", "", "a b", "[x", "::1", "[localhost]"),
        *("user@127.0.0.1:1", "user:password@localhost", "127.0.0.1/a", "127.0.0.1:1/a", "localhost?a", "localhost#a"),
        *("localhost:", "localhost:a", "localhost:1:2", "localhost\\a", "evil.example, localhost"),
    ],
)
def test_other_names_are_refused(server: Running, host: str) -> None:
    assert server.ask("/v1/caption", COFFEE, BEARER | {"Host": host}).status in (400, 421)
    assert server.ask("/", headers={"Host": host}).status in (400, 421)


@pytest.mark.parametrize("host", ["localhost:9999", "LOCALHOST", "127.0.0.1:1", "[::1]:8765"])
def test_a_tunnel_may_have_another_port(server: Running, host: str) -> None:
    assert server.ask("/health", headers={"Host": host}).status == 200


def test_beyond_the_loopback_addresses_are_names_too() -> None:
    access = Access("0.0.0.0", 1, TOKEN)
    assert access.is_called("192.168.0.7:8765")
    assert access.is_called("[fe80::1]")
    assert access.is_called(f"{socket.gethostname()}:80")
    assert not access.is_called("evil.example")


def test_a_proxys_name_is_answered_to_where_that_is_allowed() -> None:
    access = Access("127.0.0.1", 1, TOKEN, ["Photos.example.org"])
    assert access.is_called("photos.example.org")
    assert access.is_called("PHOTOS.example.org:443")
    for host in ("example.org", "a.photos.example.org", "photos.example.org.evil.example", "x@photos.example.org"):
        assert not access.is_called(host)


@pytest.mark.parametrize("name", ["*", "*.example.org", "https://example.org", "example.org:80", "example.org/a", ""])
def test_what_is_no_name_cannot_be_allowed(name: str) -> None:
    command = [sys.executable, "-m", "capcli", "serve", "--port", "0", "--allow-host", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    line = f"capcli: --allow-host {name}: not a bare host name, such as photos.example.org\n"
    assert (done.returncode, done.stderr) == (2, line)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "é"])
def test_other_sites_are_refused(server: Running, origin: str) -> None:
    for headers in (BEARER, server.cookie):
        answer = server.ask("/v1/caption", COFFEE, headers | {"Origin": origin})
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_browsers_request_without_an_origin_changes_nothing(server: Running) -> None:
    assert server.ask("/v1/caption", COFFEE, server.cookie).status == 200
    assert server.ask("/v1/caption", COFFEE, {"Cookie": server.cookie["Cookie"]}).status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_cannot_embed_anything(server: Running, site: str) -> None:
    cookie = {"Cookie": server.cookie["Cookie"], "Sec-Fetch-Site": site}
    assert server.ask("/", headers=cookie | {"Sec-Fetch-Mode": "no-cors"}).status == 403
    assert server.ask("/", headers=cookie | {"Sec-Fetch-Mode": "navigate"}).status in (200, 303)  # a link is fine
    assert server.ask("/login", f"token={TOKEN}", cookie | {"Sec-Fetch-Mode": "navigate"}).status == 403


def test_no_other_site_may_read_answers(server: Running) -> None:
    for method in ("OPTIONS", "GET", "POST"):
        answer = server.ask("/v1/caption", headers=BEARER, method=method)
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_the_cookie_is_for_this_site_only(server: Running) -> None:
    answer = server.ask("/login", f"token={TOKEN}", {"Origin": server.address})
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert set(attributes) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert TOKEN not in name


def test_pages_run_no_script_but_their_own(server: Running) -> None:
    for path in ("/", "/login", "/docs"):
        answer = server.ask(path, headers=server.cookie)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        page = answer.body.decode()
        assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=|javascript:", page)


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


# No addresses are fetched, and there are no paths.


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


# Nothing that is sent makes the server fail.


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
