"""What the page without a folder asks for: captions of dropped photos, readings of a person's sentences."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capcli.explaining.showing import shown_explanation
from capcli.maps.shown import shown_caption
from capcli.results import ImageError
from capcli.serve.answers import answer
from capcli.serve.api import EXPLAIN_PARAMETERS, Api
from capcli.serve.parameters import NAME

CANDIDATES = 5  # captions of a photo
PICTURE_SIDE = 640  # pixels


class Trying:
    """Answer requests of the page without a folder."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def caption(self, request: Request) -> Response:
        """Answer with a photo's captions, best first, and the upright photo as JPEG, which every browser shows."""
        async with self.api.asked(request, NAME) as asked:
            options = asked.parameters["options"]
            (result,) = await self.api.captions(asked.images, CANDIDATES, options, PICTURE_SIDE)
        if isinstance(result, ImageError):
            raise result
        return answer(shown_caption(result))

    async def explain(self, request: Request) -> Response:
        """Answer with explanations of sentences over a photo."""
        async with self.api.asked(request, EXPLAIN_PARAMETERS) as asked:
            explained = await self.api.explained(asked, asked.parameters.get("sentence", []))
        return answer([shown_explanation(each) for each in explained])

    def routes(self) -> list[Route]:
        return [
            Route("/page/caption", self.caption, methods=["POST"]),
            Route("/page/explain", self.explain, methods=["POST"]),
        ]
