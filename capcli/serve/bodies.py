"""Bodies of requests: read within their limits, and taken apart into images and fields."""

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

FORM = "multipart/form-data"


@dataclass
class Upload:
    """Hold what came with a request.

    images: their names and encoded contents.
    fields: what else was in a form, as (name, text).
    """

    images: list[tuple[str, bytes]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


class FormParser(MultiPartParser):
    """Keep files in memory, and tell whether the form has ended as it should, in `complete`."""

    spool_max_size = MAX_BODY  # nothing that is sent gets onto the disk
    complete = False

    def on_end(self) -> None:
        """Note the end."""
        self.complete = True


async def read_upload(request: Request, holding: Holding) -> Upload:
    """Return the images of a request: its body itself, or the files of a form. Raises Refusal."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() == FORM:
        return await read_form(request, holding)
    body = await read_body(request, holding)
    if not body:
        raise Refusal(400, "no image: send one as the body, or several as files of a form")
    return Upload([(request.query_params.get("name", "image"), body)])


async def read_form(request: Request, holding: Holding) -> Upload:
    """Return what a form holds; the arguments are those of `read_body`. Raises Refusal."""
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
    except (FormParserError, UnicodeError):  # a kind of encoding that cannot be decoded, for one
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

    holding: holds its memory until the request has been answered.

    Raises Refusal if it is too large or too slow.
    """
    async with within_time():
        return b"".join([piece async for piece in pieces_of(request, holding)])


async def pieces_of(request: Request, holding: Holding) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a request's body, their memory held; the arguments are those of `read_body`.

    Raises Refusal if it is too large, and TimeoutError if a piece is too long in coming.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        holding.hold(int(announced[:20]))  # before any of it is read
    size, stream = 0, aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(PAUSE_SECONDS):  # wait_for may swallow the end of the time around it
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        size += len(piece)
        holding.hold(size)
        yield piece


@contextlib.asynccontextmanager
async def within_time() -> AsyncIterator[None]:
    """Give a body its time. Raises Refusal once that is over, or if the connection is closed before its end."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            yield
    except TimeoutError:
        raise Refusal(408, "the body came too slowly") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection was closed before the end of the body") from None
