"""The HTTP API: captions, explanations and attention for uploaded images."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from capcli import __version__
from capcli.captioner import Captioner
from capcli.decoding.options import DecodingOptions
from capcli.explaining.printing import as_row
from capcli.explaining.reading import Explanation, explain, ranked
from capcli.images.decode import TOO_LARGE, open_upright
from capcli.maps.folders import attention_record
from capcli.maps.overlay import OverlayOptions, draw_overlay, heatmaps
from capcli.maps.sheet import contact_sheet, encode
from capcli.model.vocabulary import tokenize
from capcli.outputs.keywords import all_with_keywords
from capcli.outputs.rows import as_row as caption_row
from capcli.results import Candidate, Caption, ImageError
from capcli.serve.answers import answer
from capcli.serve.batching import Job, SharedBatches
from capcli.serve.bodies import Upload, read_upload
from capcli.serve.costs import cost_of_caption, cost_of_opening, cost_of_reading
from capcli.serve.limits import ANSWER_SECONDS, Gate, Holding, Refusal
from capcli.serve.parameters import DECODING, DRAWING, NAME, SENTENCES, WRITING, Parameter, read_parameters
from capcli.settings import Setting

SHEET_SIDE = 640  # pixels; the most for the pictures of a contact sheet
FORMATS = {"format": Parameter(str, Setting("png for pictures, json for the weights."), ("png", "json"), "png")}
WORD = {"word": Parameter(int, Setting("Only the picture of this word, counted from 0.", 0))}
SENTENCE = {"sentence": Parameter(str, Setting("A description to read over the photo, in place of the caption."))}
CAPTION_PARAMETERS = NAME | DECODING | WRITING
EXPLAIN_PARAMETERS = NAME | SENTENCES
ATTENTION_PARAMETERS = (
    NAME | FORMATS | WORD | SENTENCE | DRAWING | {name: p for name, p in DECODING.items() if name != "num"}
)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class Asked:
    """Hold a request's images, as (name, bytes), and the values of its parameters."""

    images: list[tuple[str, bytes]]
    parameters: dict[str, Any]


class Api:
    """Answer programs' requests."""

    def __init__(self, captioner: Captioner, gate: Gate, max_pixels: int | None = None, batch_size: int = 32) -> None:
        """Start the threads that caption.

        gate: counts the work in progress.
        captioner, max_pixels, batch_size: as in `Captioner.stream`.
        """
        self.gate, self.max_pixels, self.batch_size = gate, max_pixels, batch_size
        self.captioner, self.batches = captioner, SharedBatches(captioner, batch_size, max_pixels)
        self.threads = ThreadPoolExecutor(max(2, os.cpu_count() or 1), "serve")
        self.drawing = asyncio.Semaphore(max(2, os.cpu_count() or 1))

    def use(self, captioner: Captioner) -> None:
        """Caption with another captioner from now on."""
        before = self.batches
        self.captioner, self.batches = captioner, SharedBatches(captioner, self.batch_size, self.max_pixels)
        before.finish()

    def close(self) -> None:
        self.batches.close()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def in_thread(self, function: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Run a slow function in one of a few threads. Raises Refusal after ANSWER_SECONDS."""
        async with within_time(), self.drawing:
            return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: function(*arguments, **named))

    @contextlib.asynccontextmanager
    async def asked(self, request: Request, known: Mapping[str, Parameter]) -> AsyncIterator[Asked]:
        """Read a request, holding its memory during the block. known: its parameters. Raises Refusal."""
        given = request.query_params.multi_items()
        read_parameters(given, known, self.captioner)  # before the body, which may be large
        with Holding(self.gate) as holding:
            upload: Upload = await read_upload(request, holding)
            parameters = read_parameters([*given, *upload.fields], known, self.captioner)
            yield Asked(upload.images, parameters)

    async def captions(
        self, images: list[tuple[str, bytes]], num: int, options: DecodingOptions, photo_side: int = 0
    ) -> list[Caption | ImageError]:
        """Return each image's caption, or its ImageError.

        images: names and contents; emptied, to free their memory.
        num, options, photo_side: as in `Captioner.stream`.

        Raises Refusal.
        """
        futures = []
        with self.gate.some_images(len(images)):
            cost = len(images) * cost_of_caption(options, num)
            cost += await self.cost_of_opening([content for _, content in images])
            with self.gate.work(cost):
                while images:
                    name, content = images.pop(0)
                    job = Job(name, content, num, options, photo_side)
                    futures.append(asyncio.wrap_future(self.batches.submit(job)))
                async with within_time():
                    results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if not isinstance(result, (Caption, ImageError)):
                raise result
        return results  # type: ignore[return-value]

    async def cost_of_opening(self, images: list[bytes]) -> int:
        """Return the cost of decoding images in ms, leaving out refused ones. Raises Refusal."""

        def look() -> int:
            cost = 0
            for image in images:
                with contextlib.suppress(ImageError):
                    cost += cost_of_opening(image, self.captioner.config.image_size, self.max_pixels)
            return cost

        async with within_time():
            return await asyncio.to_thread(look)

    async def read(self, image: bytes, sentences: list[str]) -> list[Explanation]:
        """Explain sentences over an image. Raises Refusal and ImageError."""
        size = self.captioner.config.image_size
        cost = cost_of_reading(sentences) + await asyncio.to_thread(cost_of_opening, image, size, self.max_pixels)
        with self.gate.work(cost):
            return await self.in_thread(explain, self.captioner, image, sentences)

    async def caption(self, request: Request) -> Response:
        """Answer with a row for each image, as `--format json` writes it."""
        async with self.asked(request, CAPTION_PARAMETERS) as asked:
            wanted, options = asked.parameters, asked.parameters["options"]
            num, most = wanted.get("num", 1), wanted.get("keywords", 0)
            results = await self.captions(asked.images, options.found(num) if most else num, options)
        if most:
            results = all_with_keywords(results, num, most, wanted.get("min_keyword_score"))
        results = wanted["replace"].reword(results)
        return answer(
            [caption_row(result, num, wanted.get("min_confidence")) for result in results], status_of(results)
        )

    async def explain(self, request: Request) -> Response:
        """Answer with a row for each sentence, best fit first."""
        async with self.asked(request, EXPLAIN_PARAMETERS) as asked:
            explained = await self.explained(asked, asked.parameters.get("sentence", []))
        return answer([as_row(each) for each in ranked(explained)])

    async def explained(self, asked: Asked, sentences: list[str]) -> list[Explanation]:
        """Explain sentences over the request's one image. Raises Refusal and ImageError."""
        if not sentences:
            raise Refusal(400, "no sentence: give one or more as sentence=…")
        for sentence in sentences:
            if not tokenize(sentence):
                raise Refusal(422, f"{sentence!r} has no word")
        name, content = one_image(asked)
        with named(name):
            found = await self.read(content, sentences)
        return [replace(each, caption=replace(each.caption, path=name)) for each in found]

    async def attention(self, request: Request) -> Response:
        """Answer with a picture of the attention, or its weights."""
        if not self.captioner.config.decoder_kind.attends:
            raise Refusal(422, "this checkpoint's decoder has no attention")
        async with self.asked(request, ATTENTION_PARAMETERS) as asked:
            wanted = asked.parameters
            name, content = one_image(asked)
            if "sentence" in wanted:
                (each,) = await self.explained(asked, [wanted["sentence"]])
                candidate = each.best
            else:
                (result,) = await self.captions(asked.images, 1, wanted["options"])
                if isinstance(result, ImageError):
                    raise result
                candidate = result.best
            if wanted.get("format") == "json":
                return answer(attention_record(name, candidate))
            word = wanted.get("word")
            if word is not None and word >= len(candidate.words):
                raise Refusal(400, f"word is {word}, and the caption has {len(candidate.words)} words")
            looks = OverlayOptions(
                min(wanted.get("attention_size", SHEET_SIDE), SHEET_SIDE if word is None else 1280),
                wanted.get("attention_style", "heat"),
                wanted.get("attention_scale", "word"),
                wanted.get("smooth", True),
            )
            with named(name):
                picture = await self.in_thread(draw, content, candidate, looks, word)
        return Response(picture, media_type="image/png")

    async def health(self, request: Request) -> Response:
        return answer({"status": "ok", "version": __version__, "waiting": self.gate.images})


@contextlib.asynccontextmanager
async def within_time() -> AsyncIterator[None]:
    """Give up on the block after ANSWER_SECONDS. Raises Refusal."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError:
        raise Refusal(503, f"busy: no answer within {ANSWER_SECONDS} seconds") from None


@contextlib.contextmanager
def named(name: str) -> Any:
    """Put the image's own name on an ImageError from the block."""
    try:
        yield
    except ImageError as error:
        raise ImageError(name, error.reason, error.kind) from None


def one_image(asked: Asked) -> tuple[str, bytes]:
    """Return the request's only image. Raises Refusal if there are more."""
    if len(asked.images) != 1:
        raise Refusal(400, f"{len(asked.images)} images; this takes one")
    return asked.images[0]


def draw(content: bytes, candidate: Candidate, looks: OverlayOptions, word: int | None) -> bytes:
    """Return a PNG of the words' heat over an encoded photo: a contact sheet, or one word's picture.

    word: its index; None draws all.

    Raises ImageError.
    """
    photo = open_upright(content, looks.size)
    heats = heatmaps(candidate, looks.scale)
    if word is not None:
        return encode(draw_overlay(photo, heats[word], candidate.cell_offset, looks.style, looks.smooth))
    overlays = [draw_overlay(photo, heat, candidate.cell_offset, looks.style, looks.smooth) for heat in heats]
    return encode(contact_sheet(photo, overlays, candidate.words, candidate.word_log_probs, candidate.text))


def status_of(results: Sequence[Caption | ImageError]) -> int:
    """Return the HTTP status for images: 200 if any could be read, 413 if all are too large, else 422."""
    errors = [result for result in results if isinstance(result, ImageError)]
    if len(errors) < len(results):
        return 200
    return 413 if all(TOO_LARGE.partition("{")[0] in error.reason for error in errors) else 422


async def on_image_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ImageError)
    return answer({"path": error.path, "error": error.reason}, status_of([error]))
