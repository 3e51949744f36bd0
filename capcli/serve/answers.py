"""Answers in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from capcli.outputs.formats import dump


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer.

    value: for JSON, in which file names may be that are not UTF-8.
    status: of HTTP.
    headers: beside the content's type and length.
    """
    return Response(dump(value) + "\n", status, headers, "application/json")
