"""Answers in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from capcli.outputs.formats import dump


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer in JSON.

    value: may hold file names that are not UTF-8.
    status: of HTTP.
    headers: besides content type and length.
    """
    return Response(dump(value) + "\n", status, headers, "application/json")
