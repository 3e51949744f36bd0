"""Requests' bodies: read within limits, then split into images and fields."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from capcli.serve.limits import (
    BODY_SECONDS,
    MAX_BODY,
    MAX_FILES,
    MAX_SENTENCES,
    MAX_TEXT,
    PAUSE_SECONDS,
    Holding,
    Refusal,
)

FORM, JSON = "multipart/form-data", "application/json"
HOW = "curl --data-binary @photo.jpg ADDRESS, or as a file of a form, curl -F image=@photo.jpg ADDRESS"


@dataclass
class Upload:
    """Hold what a request brought.

    images: names and encoded contents.
    fields: a form's other fields, as (name, text).
    """

    images: list[tuple[str, bytes]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


class FormParser(MultiPartParser):
    """Keep files in memory, and note in `complete` that the form ended properly."""

    spool_max_size = MAX_BODY  # uploads never reach the disk
    complete = False

    def on_end(self) -> None:
        self.complete = True


async def read_upload(request: Request, holding: Holding) -> Upload:
    """Return a request's images: its body, or a form's files. Raises Refusal."""
    kind = request.headers.get("content-type", "")
    kind = kind.partition(";")[0].strip().lower()
    if kind == FORM:
        return await read_form(request, holding)
    if kind == JSON:
        raise Refusal(400, f"an image is sent as it is, not as JSON: {HOW}")
    body = await read_body(request, holding)
    if not body:
        raise Refusal(400, "no image: send one as the body, or several as files of a form")
    return Upload([(request.query_params.get("name", "image"), body)])


async def read_form(request: Request, holding: Holding) -> Upload:
    """Return a form's content, as `read_body` does a body's. Raises Refusal."""
    parser = FormParser(
        request.headers,
        pieces_of(request, holding),
        max_files=MAX_FILES,
        max_fields=MAX_SENTENCES + 32,
        max_part_size=4 * MAX_TEXT,
    )
    try:
        async with within_time():
            form = await parser.parse()
    except (FormParserError, UnicodeError):  # such as an unknown encoding
        raise Refusal(400, "the form is damaged") from None
    except MultiPartException as error:
        if error.__cause__:
            raise Refusal(400, "the form is damaged") from None
        if sum(not isinstance(value, str) for _, value in parser.items) == MAX_FILES:
            raise Refusal(413, f"more than {MAX_FILES} images in one request") from None
        raise Refusal(400, error.message) from None
    if not parser.complete:
        raise Refusal(400, "the form is cut short")
    upload = Upload()
    for name, value in form.multi_items():
        if isinstance(value, str):
            upload.fields.append((name, value))
        else:
            upload.images.append((value.filename or "image", await value.read()))
            await value.close()
    if not upload.images:
        raise Refusal(400, "the form holds no image: give one as a file, as in curl -F image=@photo.jpg")
    return upload


async def read_body(request: Request, holding: Holding) -> bytes:
    """Return a request's body.

    holding: holds its memory until the answer.

    Raises Refusal if it is too large or too slow.
    """
    async with within_time():
        return b"".join([piece async for piece in pieces_of(request, holding)])


async def pieces_of(request: Request, holding: Holding) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces, their memory held as in `read_body`.

    Raises Refusal if it is too large, TimeoutError if a piece is late.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        holding.hold(int(announced[:20]))  # before any of it is read
    size, stream = 0, aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(PAUSE_SECONDS):  # wait_for may swallow the timeout around it
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        size += len(piece)
        holding.hold(size)
        yield piece


@contextlib.asynccontextmanager
async def within_time() -> AsyncIterator[None]:
    """Give a body BODY_SECONDS. Raises Refusal after that, or if the connection closes early."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            yield
    except TimeoutError:
        raise Refusal(408, "the body came too slowly") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection was closed before the end of the body") from None
