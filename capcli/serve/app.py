"""The application: which address leads where."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import capcli.maps.page
from capcli.maps.overlay import color_table
from capcli.results import ImageError
from capcli.serve.access import Access
from capcli.serve.answers import answer
from capcli.serve.api import Api, on_image_error
from capcli.serve.bodies import read_body
from capcli.serve.folder_page import FolderPage
from capcli.serve.guard import MISTAKE, Guard
from capcli.serve.limits import MAX_LOGIN, Gate, Holding
from capcli.serve.openapi import describe_api
from capcli.serve.trying import Trying

PAGE = Path(__file__).parent / "page"
REPORT = Path(capcli.maps.page.__file__).parent  # whose looks and heat the page shares
STATIC = {
    "style.css": (REPORT, "text/css"),
    "heat.js": (REPORT, "text/javascript"),
    "enlarge.js": (REPORT, "text/javascript"),
    "theme.js": (REPORT, "text/javascript"),
    "serve.css": (PAGE, "text/css"),
    "grid.css": (PAGE, "text/css"),
    **{script.name: (PAGE, "text/javascript") for script in PAGE.glob("*.js")},
}


class Pages:
    """Answer browsers: the pages, and the way in."""

    def __init__(self, api: Api, access: Access, folder: FolderPage | None) -> None:
        """Read the templates. folder: the page of a folder; None without one."""
        self.api, self.access = api, access
        self.album = folder.album if folder else None
        self.commands = folder.commands if folder else ()
        self.teaches = folder is not None and folder.teaching is not None
        self.templates = Environment(
            loader=ChoiceLoader([FileSystemLoader(PAGE), FileSystemLoader(REPORT)]),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self.templates.get_template(template).render(**values), status)

    async def home(self, request: Request) -> Response:
        """Answer with the page; the printed address admits a new browser, once."""
        if (once := request.query_params.get("token")) is not None:
            # Programs that preview an address before a person opens it send HEAD.
            if request.method == "GET" and self.access.spend(once):
                return self.let_in()
            return self.render("login.html", 403, problem="This address has been used already, or is an old one.")
        if not self.access.is_in(request.headers):
            return self.render("login.html", 401, problem="")
        if self.album is None:
            return await self.trying(request)
        corrections, folder = str(self.album.corrections.path), self.album.folder
        return self.render(
            "folder.html",
            colors=color_table("heat"),
            name=readable(os.path.basename(self.album.inside) or folder),
            corrections=readable(corrections),
            teaches=self.teaches,
            commands=[readable(command) for command in self.commands],
        )

    async def trying(self, request: Request) -> Response:
        """Answer with the page for trying photos."""
        return self.render("try.html", colors=color_table("heat"), folder=self.album is not None)

    async def login(self, request: Request) -> Response:
        """Take a typed token, or ask for it."""
        if request.method != "POST":
            return self.render("login.html", problem="")
        with Holding(Gate(), MAX_LOGIN) as holding:  # takes nothing from those let in
            body = await read_body(request, holding)
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if self.access.is_token(token) or self.access.spend(token):
            return self.let_in()
        return self.render("login.html", 403, problem="This is not the token.")

    def let_in(self) -> Response:
        """Return a page that gives the browser its cookie and leads it on.

        After a link in a message, a redirection would count as coming from another site, and no cookie would be sent.
        """
        response = self.render("enter.html")
        response.headers["set-cookie"] = self.access.set_cookie()
        return response

    async def docs(self, request: Request) -> Response:
        return self.render("docs.html", api=self.description, address=f"http://{request.headers['host']}")

    async def openapi(self, request: Request) -> Response:
        return answer(self.description)

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        return describe_api(self.api.captioner.options)

    async def static(self, request: Request) -> Response:
        """Answer with a file that pages load."""
        name = request.path_params["name"]
        if name not in STATIC:
            raise HTTPException(404, "there is nothing here")
        folder, kind = STATIC[name]
        return FileResponse(folder / name, media_type=kind, headers={"Cache-Control": "no-cache"})

    def routes(self) -> list[Route]:
        return [
            Route("/", self.home),
            Route("/try", self.trying),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/docs", self.docs),
            Route("/openapi.json", self.openapi),
            Route("/static/{name}", self.static),
        ]


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer with a line of JSON that gives the reason."""
    assert isinstance(error, HTTPException)
    known = {404: "there is nothing here", 405: "this address does not take that method"}
    reason = known.get(error.status_code, error.detail)
    return answer({"error": reason}, error.status_code, error.headers)


async def on_mistake(request: Request, error: Exception) -> Response:
    """Answer that capcli has a bug; its details are nobody's business on the network."""
    return answer({"error": MISTAKE}, 500)


def readable(name: str) -> str:
    """Replace the bytes of a file name that are not UTF-8 by a mark."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


def make_app(api: Api, access: Access, report: Callable[[str], object], folder: FolderPage | None = None) -> ASGIApp:
    """Return the application.

    report: takes a line about a bug in capcli.
    folder: None without a folder.
    """
    routes = [
        Route("/v1/caption", api.caption, methods=["POST"]),
        Route("/v1/explain", api.explain, methods=["POST"]),
        Route("/v1/attention", api.attention, methods=["POST"]),
        Route("/health", api.health),
        *Pages(api, access, folder).routes(),
        *Trying(api).routes(),
        *(folder.routes() if folder else []),
    ]
    handlers: Any = {HTTPException: on_refusal, ImageError: on_image_error, Exception: on_mistake}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), access, api.gate, report)
