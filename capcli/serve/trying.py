"""What the page without a folder asks for: captions of photos that are dropped on it, and a person's own sentences."""

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
        """Take what captions. api: of programs, which does the same."""
        self.api = api

    async def caption(self, request: Request) -> Response:
        """Answer with a photo's captions, best first, and the photo upright, as a JPEG that every browser can show."""
        async with self.api.asked(request, NAME) as asked:
            options = asked.parameters["options"]
            (result,) = await self.api.captions(asked.images, CANDIDATES, options, PICTURE_SIDE)
        if isinstance(result, ImageError):
            raise result
        return answer(shown_caption(result))

    async def explain(self, request: Request) -> Response:
        """Answer with what the model makes of sentences over a photo."""
        async with self.api.asked(request, EXPLAIN_PARAMETERS) as asked:
            explained = await self.api.explained(asked, asked.parameters.get("sentence", []))
        return answer([shown_explanation(each) for each in explained])

    def routes(self) -> list[Route]:
        """Return which address leads where."""
        return [
            Route("/page/caption", self.caption, methods=["POST"]),
            Route("/page/explain", self.explain, methods=["POST"]),
        ]
