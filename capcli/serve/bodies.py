"""Bodies of requests: read within their limits, and taken apart into images and fields."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
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
MAX_PART_HEAD = 4096  # bytes


@dataclass
class Upload:
    """Hold what came with a request.

    images: their names and encoded contents.
    fields: what else was in a form, as (name, text).
    """

    images: list[tuple[str, bytes]] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)


async def read_upload(request: Request, holding: Holding) -> Upload:
    """Return the images of a request: its body itself, or the files of a form. Raises Refusal."""
    body = await read_body(request, holding)
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() == FORM:
        return parse_form(kind, body)
    if not body:
        raise Refusal(400, "no image: send one as the body, or several as files of a form")
    return Upload([(request.query_params.get("name", "image"), body)])


async def read_body(request: Request, holding: Holding) -> bytes:
    """Return a request's body.

    holding: holds its memory until the request has been answered.

    Raises Refusal if it is too large or too slow.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        holding.hold(int(announced[:20]))  # before any of it is read
    pieces: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            stream = aiter(request.stream())
            while True:
                try:
                    async with asyncio.timeout(PAUSE_SECONDS):  # wait_for may swallow the end of the time around it
                        piece = await anext(stream)
                except StopAsyncIteration:
                    return b"".join(pieces)
                size += len(piece)
                holding.hold(size)
                pieces.append(piece)
    except TimeoutError:
        raise Refusal(408, "the body came too slowly") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection was closed before the end of the body") from None


class Form:
    """Collect the parts of a form as they are parsed. Raises Refusal for too many of them.

    upload: what has been collected.
    complete: whether the form has ended as it should.
    """

    def __init__(self) -> None:
        """Begin an empty form."""
        self.upload, self.complete = Upload(), False
        self.head: list[tuple[bytes, bytes]] = []
        self.name = self.value = b""
        self.pieces: list[bytes] = []

    def part_begin(self) -> None:
        """Begin a part."""
        self.head, self.pieces = [], []
        self.name = self.value = b""

    def header_field(self, data: bytes, start: int, end: int) -> None:
        """Add to the name of a header."""
        self.name += data[start:end]
        self.check(self.name)

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """Add to the value of a header."""
        self.value += data[start:end]
        self.check(self.value)

    def check(self, text: bytes) -> None:
        """Refuse headers that are too long."""
        if len(text) > MAX_PART_HEAD or len(self.head) > 16:
            raise Refusal(413, "the head of a form's part is too long")

    def header_end(self) -> None:
        """End a header."""
        self.head.append((self.name.lower(), self.value))
        self.name = self.value = b""

    def part_data(self, data: bytes, start: int, end: int) -> None:
        """Add to the part's content."""
        self.pieces.append(data[start:end])

    def part_end(self) -> None:
        """Keep a part as an image or a field."""
        disposition, options = parse_options_header(dict(self.head).get(b"content-disposition"))
        content = b"".join(self.pieces)
        if disposition != b"form-data":
            raise Refusal(400, "a part of the form does not say what it is")
        if b"filename" in options:
            if len(self.upload.images) == MAX_FILES:
                raise Refusal(413, f"more than {MAX_FILES} images in one request")
            self.upload.images.append((options[b"filename"].decode("utf-8", "replace") or "image", content))
            return
        if len(self.upload.fields) == MAX_SENTENCES + 32 or len(content) > 4 * MAX_TEXT:
            raise Refusal(413, "too many fields in the form, or too long a one")
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self.upload.fields.append((name, content.decode("utf-8", "replace")))

    def end(self) -> None:
        """Note that the form has ended."""
        self.complete = True


def parse_form(kind: str, body: bytes) -> Upload:
    """Return what a form holds. kind: the content type with the boundary. Raises Refusal."""
    _, options = parse_options_header(kind)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046
        raise Refusal(400, "the form names no boundary")
    form = Form()
    callbacks = {
        "on_part_begin": form.part_begin,
        "on_part_data": form.part_data,
        "on_part_end": form.part_end,
        "on_header_field": form.header_field,
        "on_header_value": form.header_value,
        "on_header_end": form.header_end,
        "on_end": form.end,
    }
    try:
        parser = MultipartParser(boundary, callbacks, max_size=MAX_BODY)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise Refusal(400, "the form is damaged") from None
    if not form.complete:
        raise Refusal(400, "the form is cut short")
    if not form.upload.images:
        raise Refusal(400, "the form holds no image: give one as a file, as in curl -F image=@photo.jpg")
    return form.upload
