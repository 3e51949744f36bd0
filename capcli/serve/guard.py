"""The layer between network and application: it checks who asks, counts requests, and hardens answers."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import PurePath

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capcli.serve.access import Access
from capcli.serve.answers import answer
from capcli.serve.limits import Gate, Refusal

# Open to anybody: says nothing about photos, and is the same in every run.
OPEN = ("/health", "/docs", "/openapi.json", "/login", "/static/")
UNCOUNTED = ("/health", "/docs", "/openapi.json", "/static/")
MISTAKE = "a bug in capcli; its terminal says more"
SAFE = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # no-referrer would also hide where a form comes from
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Wrap an application, checking and counting its requests."""

    def __init__(self, app: ASGIApp, access: Access, gate: Gate, report: Callable[[str], object]) -> None:
        """Wrap it.

        gate: counts requests.
        report: takes a line about a bug in capcli, for the terminal only.
        """
        self.app, self.access, self.gate, self.report = app, access, gate, report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        began = False

        async def send_on(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                given = {name.lower() for name, _ in message["headers"]}
                missing = {"cache-control": "no-store"} | HEADERS
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in missing.items() if n.encode() not in given),
                ]
            await send(message)

        try:
            if (refusal := self.refusal(scope)) is not None:
                await refused(refusal)(scope, receive, send_on)
            elif not self.access.is_in(Headers(scope=scope)):  # strangers' connections are limited: see `server`
                await self.app(scope, receive, send_on)
            elif scope["path"].startswith(UNCOUNTED):
                scope["state"]["let_in"]()
                await self.app(scope, receive, send_on)
            else:
                scope["state"]["let_in"]()
                with self.gate.request(scope["client"][0] if scope["client"] else ""):
                    await self.app(scope, receive, send_on)
        except Refusal as refusal:  # the gate's
            await refused(refusal)(scope, receive, send_on)
        except Exception as error:
            self.report(f"a bug in capcli: {describe(error)}")
            if not began:
                await answer({"error": MISTAKE}, 500)(scope, receive, send_on)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Return why a request gets no answer, or None."""
        headers = Headers(scope=scope)
        path, method = scope["path"], scope["method"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.is_called(hosts[0]):
            return Refusal(
                421, "this server does not answer to that name; use the address that it printed, or --allow-host"
            )
        has_token = self.access.has_token(headers)
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None and not is_same(origin, hosts[0]):
            return Refusal(403, "requests from other sites are not answered")
        # Another site's form or picture may come without an origin.
        navigates = method in SAFE and headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not navigates:
            return Refusal(403, "requests from other sites are not answered")
        if path.startswith(OPEN) or has_token:
            return None
        if not self.access.has_cookie(headers):
            if path == "/" and method in SAFE:  # the page that asks for the token
                return None
            return Refusal(401, "a token is needed: Authorization: Bearer TOKEN")
        if method not in SAFE and origin is None:
            return Refusal(403, "requests from other sites are not answered")
        return None


def is_same(origin: str, host: str) -> bool:
    """Return whether an origin is this server's, called `host`; a proxy may have made it https."""
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def refused(refusal: Refusal) -> Response:
    headers = dict(refusal.headers or {}) | ({"WWW-Authenticate": "Bearer"} if refusal.status_code == 401 else {})
    return answer({"error": refusal.detail}, refusal.status_code, headers)


def describe(error: BaseException) -> str:
    """Return an exception and where it was raised, on one line."""
    here = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" at {PurePath(frame.filename).name}:{frame.lineno}" for frame in here)
    return f"{type(error).__name__}{place}: {' '.join(str(error).split())}"
