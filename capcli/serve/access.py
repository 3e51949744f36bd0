"""Who may ask: tokens, the browser's cookie, and the names that the server answers to."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import threading
from collections.abc import Iterable

from starlette.datastructures import Headers

# A Host header: a name, an IPv4 address, or an IPv6 address in brackets; then the port, and nothing else.
HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:/?#@\\*]+))(?::\d{1,5})?", re.IGNORECASE)
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
LEAST_TOKEN = 16  # characters


class Access:
    """Hold one run's secrets and check requests against them.

    token: for programs, as `Authorization: Bearer TOKEN`, and for people to type into the page.
    cookie_name: names the port, as a machine's ports share cookies.
    """

    def __init__(self, host: str, port: int, token: str | None = None, allowed: Iterable[str] = ()) -> None:
        """Make the secrets that are not given.

        host, port: where the server listens.
        token: LEAST_TOKEN characters or more.
        allowed: further names of the server.
        """
        self.token = token or secrets.token_urlsafe(24)
        self.once: str | None = secrets.token_urlsafe(24)
        self.cookie_name, self.cookie = f"capcli-{port}", secrets.token_urlsafe(32)
        self.lock = threading.Lock()
        self.names = {*LOOPBACK_NAMES, *map(str.lower, allowed)}
        self.beyond_loopback = not is_loopback(host)
        if self.beyond_loopback:
            own = socket.gethostname().lower()
            self.names |= {host.lower(), own, f"{own}.local"}

    def spend(self, once: str) -> bool:
        """Return whether this is the token in the printed address, which admits one browser, once."""
        with self.lock:
            if self.once is None or not same(once, self.once):
                return False
            self.once = None
            return True

    def is_token(self, text: str) -> bool:
        return same(text, self.token)

    def is_in(self, headers: Headers) -> bool:
        """Return whether a request brings the token or the cookie."""
        return self.has_token(headers) or self.has_cookie(headers)

    def has_token(self, headers: Headers) -> bool:
        """Return whether a request brings the token."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(token.strip())

    def has_cookie(self, headers: Headers) -> bool:
        """Return whether a request brings our cookie, among others of any form, even of our name."""
        pieces = [piece.partition("=") for line in headers.getlist("cookie") for piece in line.split(";")]
        return any(name.strip() == self.cookie_name and same(value.strip(), self.cookie) for name, _, value in pieces)

    def set_cookie(self) -> str:
        """Return the header that admits a browser; scripts cannot read the cookie, nor other sites have it sent."""
        return f"{self.cookie_name}={self.cookie}; Path=/; HttpOnly; SameSite=Strict"

    def is_called(self, host: str) -> bool:
        """Return whether the server goes by this name; any other may be a stranger's that points here.

        host: the request's Host, with any port, as a tunnel has its own. Beyond loopback any IP address will do: other
            sites need a name to lead a browser here.
        """
        name = name_in(host)
        return name is not None and (name in self.names or (self.beyond_loopback and is_address(name)))


def name_in(host: str) -> str | None:
    """Return the name or address in a Host header, in lower case; None if no browser would send it."""
    found = HOST.fullmatch(host)
    return (found[1] or found[2]).lower() if found else None


def same(given: str, secret: str) -> bool:
    """Return whether a secret was given, in a time that does not reveal how much of it was right."""
    return secrets.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode("utf-8", "surrogatepass"))


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine only."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)
