"""Host and Origin are checked, there is no CORS, and the cookie is for this site only."""

from __future__ import annotations

import re
import socket
import subprocess
import sys

import pytest
from serving import BEARER, COFFEE, PATIENCE, TOKEN, Running

from capcli.serve.access import Access


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
