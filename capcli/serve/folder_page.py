"""What a folder's page asks for: photos and captions, and saving what the person makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capcli.explaining.showing import shown_explanation
from capcli.images.decode import open_resized, within
from capcli.maps.shown import as_jpeg
from capcli.model.vocabulary import tokenize
from capcli.serve.album import CANDIDATES, Album
from capcli.serve.answers import answer
from capcli.serve.api import Api, named
from capcli.serve.bodies import read_body
from capcli.serve.corrections import CorrectionsError
from capcli.serve.limits import MAX_TEXT, Holding, Refusal
from capcli.serve.photos import Photo
from capcli.serve.saves import Saved
from capcli.serve.teaching import Teaching

SIDES = (160, 480, 1280)  # pixels of a photo's longest side: in the strip, in the grid, and large
MAX_SAVED = 100  # photos of one request
MAX_JSON = 300_000  # bytes
KEPT_BY_BROWSERS = "private, max-age=600"
R = TypeVar("R")


class FolderPage:
    """Answer the requests of a folder's page."""

    def __init__(
        self,
        api: Api,
        album: Album,
        max_pixels: int | None = None,
        commands: Sequence[str] = (),
        teaching: Teaching | None = None,
    ) -> None:
        """Take the photos and their captioner.

        max_pixels: larger photos are not shown.
        commands: that teach a model what is saved, and open this page with it.
        teaching: does so from the page; None where nobody may.
        """
        self.api, self.album, self.max_pixels, self.commands = api, album, max_pixels, commands
        self.teaching = teaching
        self.switching = ThreadPoolExecutor(1, "switch")
        self.saving = ThreadPoolExecutor(1, "save")  # one at a time, whatever else goes on

    async def photos(self, request: Request) -> Response:
        """Answer with changes since an earlier answer."""
        text = request.query_params.get("since", "0")
        return answer(self.album.since(int(text) if text.isdecimal() and len(text) < 16 else 0))

    async def picture(self, request: Request) -> Response:
        """Answer with a photo as JPEG; its address names the content, so no cache mistakes it."""
        photo, side = self.photo_of(request), int(request.path_params["side"])
        if side not in SIDES or request.path_params["content"] != photo.content:
            raise Refusal(404, "there is nothing here")

        def make() -> bytes:
            return as_jpeg(open_resized(self.album.read(photo), side, [within(side)], self.max_pixels)[0])

        with named(photo.name):
            content = await self.api.in_thread(make)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": KEPT_BY_BROWSERS})

    async def read(self, request: Request) -> Response:
        """Answer with explanations of sentences over a photo."""
        photo = self.photo_of(request)
        sentences = (await self.json_of(request)).get("sentences")
        if not isinstance(sentences, list) or not 1 <= len(sentences) <= CANDIDATES + 1:
            raise Refusal(422, f"send one to {CANDIDATES + 1} sentences at a time")
        texts = [checked(sentence) for sentence in sentences]
        with named(photo.name):
            content = await self.api.in_thread(self.album.read, photo)
            explained = await self.api.read(content, texts)
        return answer([shown_explanation(each) for each in explained])

    async def save(self, request: Request) -> Response:
        """Save a caption if the photo is still as the person saw it: `If-Match` names that version."""
        photo = self.photo_of(request)
        tag = request.headers.get("if-match", "").strip('"')
        if not tag:
            raise Refusal(428, "If-Match must name the version that was seen")
        self.check_run(tag)
        text = caption_in(await self.json_of(request), photo)
        saved = await self.in_turn(lambda: self.album.save([(photo, tag, text)]))
        return self.outcome(saved, 409 if saved.conflicts else 200)

    async def save_several(self, request: Request) -> Response:
        """Save captions of those photos that are still as the person saw them; without a caption, their best ones."""
        wanted = (await self.json_of(request)).get("photos")
        if not isinstance(wanted, list) or not 1 <= len(wanted) <= MAX_SAVED:
            raise Refusal(422, f"save 1 to {MAX_SAVED} photos at a time")
        chosen = []
        for each in wanted:
            number, tag = (each.get("id"), each.get("tag")) if isinstance(each, dict) else (None, None)
            photo = self.album.photo(number) if type(number) is int else None
            if photo is None or not isinstance(tag, str):
                raise Refusal(422, "a photo is {id, tag, caption}; without a caption the model's is saved")
            self.check_run(tag)
            if "caption" in each:
                text = caption_in(each, photo)
            elif photo.candidates and tokenize(photo.candidates[0]["caption"]):
                text = photo.candidates[0]["caption"]
            else:
                raise Refusal(422, f"{photo.name} has no caption yet")
            chosen.append((photo, tag, text))
        return self.outcome(await self.in_turn(lambda: self.album.save(chosen)))

    async def undo(self, request: Request) -> Response:
        number = (await self.json_of(request)).get("save")
        saved = await self.in_turn(lambda: self.album.undo(number)) if type(number) is int else None
        if saved is None:
            raise Refusal(410, "this cannot be undone any more")
        return self.outcome(saved, 409 if saved.conflicts else 200)

    async def teach(self, request: Request) -> Response:
        """Tell how far teaching is; a POST starts or cancels it, or chooses a model."""
        teaching = self.teaching
        if teaching is None:
            raise Refusal(404, "there is nothing here")
        if request.method == "POST":
            wanted = (await self.json_of(request)).get("do")
            steps = {
                "start": self.start_teaching,
                "cancel": teaching.cancel,
                "use": lambda: self.switch(True),
                "back": lambda: self.switch(False),
            }
            if wanted not in steps:
                raise Refusal(422, f"do is one of {', '.join(steps)}")
            try:
                await asyncio.get_running_loop().run_in_executor(self.switching, steps[wanted])
            except OSError as error:
                raise Refusal(500, f"{error.filename}: {(error.strerror or str(error)).lower()}") from None
        return answer(await asyncio.to_thread(teaching.state))

    def start_teaching(self) -> None:
        """Teach what is saved. Raises Refusal and OSError."""
        assert self.teaching is not None
        with self.album.lock:
            saved = sum(photo.saved is not None for photo in self.album.photos)
        if saved < 2:
            raise Refusal(422, "save two captions or more first")
        self.teaching.start()

    def switch(self, taught: bool) -> None:
        """Caption with the taught model from now on, or with the one of before. Raises Refusal."""
        assert self.teaching is not None
        if not self.album.listed:
            raise Refusal(503, "the folder is still being listed; try again")
        captioner, cache = self.teaching.choose(taught)
        self.api.use(captioner)
        self.album.caption(self.album.images, captioner, cache)

    def photo_of(self, request: Request) -> Photo:
        """Return the photo with the request's number. Raises Refusal."""
        photo = self.album.photo(request.path_params["number"])
        if photo is None:
            raise Refusal(404, "there is no such photo")
        return photo

    def check_run(self, tag: str) -> None:
        """Refuse a page of an earlier run, whose numbers mean other photos. tag: a photo's, from the page."""
        if tag.partition("-")[0] != self.album.run:
            raise Refusal(410, "capcli serve was restarted: reload this page")

    async def json_of(self, request: Request) -> dict[str, Any]:
        """Return a request's JSON object. Raises Refusal."""
        with Holding(self.api.gate, MAX_JSON) as holding:
            body = await read_body(request, holding)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Refusal(400, "not a JSON object")
        return value

    async def in_turn(self, function: Callable[[], R]) -> R:
        """Run a function that saves, one at a time; once begun, it is finished.

        Raises Refusal if nothing could be saved.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self.saving, function)
        except CorrectionsError as error:
            raise Refusal(500, f"nothing is saved: {error}") from None
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Refusal(507, f"nothing is saved: {error.filename or 'corrections'}: {reason}") from None

    def outcome(self, saved: Saved, status: int = 200) -> Response:
        """Return the answer to saving or undoing."""
        shown = self.album.shown
        told = {
            "save": saved.save,
            "photos": [shown(photo) for photo in saved.photos],
            "conflicts": [shown(photo) for photo in saved.conflicts],
            "problems": saved.problems,
        }
        if status == 409:
            told["error"] = "changed elsewhere meanwhile"
        return answer(told, status)

    def routes(self) -> list[Route]:
        return [
            Route("/page/photos", self.photos),
            Route("/page/photos/{number:int}", self.save, methods=["PUT"]),
            Route("/page/photos/{number:int}/read", self.read, methods=["POST"]),
            Route("/page/save", self.save_several, methods=["POST"]),
            Route("/page/teaching", self.teach, methods=["GET", "POST"]),
            Route("/page/undo", self.undo, methods=["POST"]),
            Route("/photos/{number:int}/{content}/{side:int}", self.picture),
        ]


def caption_in(value: dict[str, Any], photo: Photo) -> str | None:
    """Return the caption to save for a photo; None, which JSON calls null, removes what was saved. Raises Refusal."""
    if "caption" in value and value["caption"] is None:
        if photo.saved is None:
            raise Refusal(422, f"nothing is saved for {photo.name}")
        return None
    return checked(value.get("caption"))


def checked(text: Any) -> str:
    """Return a caption on one line. Raises Refusal if it cannot be one."""
    if not isinstance(text, str):
        raise Refusal(422, "a caption must be text")
    plain = " ".join(text.split())
    if len(plain) > MAX_TEXT:
        raise Refusal(413, f"the caption has more than {MAX_TEXT} characters")
    if not tokenize(plain) or any("\ud800" <= sign <= "\udfff" for sign in plain) or not plain.isprintable():
        raise Refusal(422, "the caption has no word, or a character that cannot be written")
    return plain
