"""The HTTP API's description in OpenAPI 3.1, made from its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from capcli import __version__
from capcli.decoding.options import DecodingOptions
from capcli.serve.api import ATTENTION_PARAMETERS, CAPTION_PARAMETERS, EXPLAIN_PARAMETERS
from capcli.serve.limits import MAX_BODY, MAX_FILES
from capcli.serve.parameters import Parameter
from capcli.serve.samples import samples

TYPES = {int: "integer", float: "number", bool: "boolean", str: "string"}
LARGEST = 2**31  # of a limit worth telling
ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
SCORED = {"caption": {"type": ["string", "null"]}, "log_prob": {"type": "number"}, "score": {"type": "number"}}
CANDIDATE = {"type": "object", "properties": SCORED}
KIND = {"type": "object", "properties": {"name": {"type": "string"}, "probability": {"type": "number"}}}
ROW = {
    "type": "object",
    "description": "What --format json writes for an image: a caption, or the error of one that cannot be read.",
    "properties": {
        "path": {"type": "string", "description": "The name that the image was sent with."},
        **SCORED,
        "confidence": {
            "type": "number",
            "description": "How likely it is right, 0 to 1; absent where the checkpoint cannot tell.",
        },
        "unsure": {
            "type": "boolean",
            "description": "True where it is more likely wrong than right, else absent.",
        },
        "kinds": {"type": "array", "items": KIND, "description": "What the photo shows, by the encoder alone."},
        "candidates": {"type": "array", "items": CANDIDATE, "description": "With num above 1."},
        "keywords": {"type": "array", "items": {"type": "string"}, "description": "With keywords."},
        "error": {"type": "string"},
    },
    "required": ["path"],
}
RECORD = {
    "type": "object",
    "description": "What attention.json holds: for each word its log-probability, gate and weights, row by row.",
    "properties": {
        "path": {"type": "string"},
        "caption": {"type": "string"},
        "grid": {"type": ["array", "null"], "items": {"type": "integer"}, "description": "Rows and columns."},
        "words": {"type": "array", "items": {"type": "object"}},
    },
}
HEALTH = {"status": "ok", "version": __version__, "waiting": 0}
IMAGE = {"schema": {"type": "string", "format": "binary"}}
STATUSES = {
    "400": "An invalid parameter or form.",
    "401": "No token.",
    "403": "A request from another site.",
    "408": "The body came too slowly.",
    "413": f"Too large: more than {MAX_BODY:,} bytes, {MAX_FILES} images, --max-pixels, or too much work.",
    "421": "The server does not answer to that name.",
    "422": "No image could be read.",
    "429": "Too many requests at a time from one address; try again.",
    "503": "Busy; try again.",
}


def parameter(name: str, described: Parameter, default: Any = None) -> dict[str, Any]:
    """Return a parameter's description. name: with underscores."""
    declared = described.declared
    schema: dict[str, Any] = {"type": TYPES[described.kind]}
    limits = {"minimum": declared.low, "maximum": declared.high}
    schema |= {key: limit for key, limit in limits.items() if abs(limit) <= LARGEST}
    schema |= {"enum": list(described.choices)} if described.choices else {}
    if declared.several:
        schema = {"type": "array", "items": schema}
    if (default := described.default if default is None else default) is not None:
        schema["default"] = default
    return {"name": name.replace("_", "-"), "in": "query", "description": declared.help, "schema": schema}


def operation(
    name: str,
    summary: str,
    parameters: Mapping[str, Parameter],
    answer: dict[str, Any],
    defaults: Mapping[str, Any],
    several: bool = False,
) -> dict[str, Any]:
    """Return the description of a POST that takes images.

    name: its id.
    parameters: in the address or as form fields.
    answer: content types and what they hold.
    defaults: of parameters that the model says.
    several: whether a form may hold several images.
    """
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"image": {"type": "array", "items": file} if several else file}}
    refused = {
        status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
        for status, text in STATUSES.items()
    }
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [parameter(each, described, defaults.get(each)) for each, described in parameters.items()],
        "requestBody": {
            "required": True,
            "description": "An encoded image"
            + (", or a form with one or more." if several else ", or a form with one."),
            "content": {"application/octet-stream": IMAGE, "multipart/form-data": {"schema": form}},
        },
        "responses": {"200": {"description": "Done.", "content": answer}} | refused,
    }


def as_json(schema: dict[str, Any], sample: Any) -> dict[str, Any]:
    """Return a JSON answer with this schema and sample."""
    return {"application/json": {"schema": schema, "example": sample}}


def describe_api(options: DecodingOptions | None = None) -> dict[str, Any]:
    """Return the whole description. options: by which captions are found unless a request says otherwise."""
    found = asdict(options or DecodingOptions())
    defaults = {name: value for name, value in found.items() if value not in (None, ())}
    sample = samples()
    caption = operation(
        "caption",
        "Caption images",
        CAPTION_PARAMETERS,
        as_json({"type": "array", "items": ROW}, sample["caption"]),
        defaults,
        several=True,
    )
    explain = operation(
        "explain",
        "Read sentences over a photo, word by word; the one first that fits it best",
        EXPLAIN_PARAMETERS,
        as_json({"type": "array", "items": RECORD}, sample["explain"]),
        defaults,
    )
    attention = operation(
        "attention",
        "Show where the model looked",
        ATTENTION_PARAMETERS,
        {"image/png": IMAGE} | as_json(RECORD, sample["attention"]),
        defaults,
    )
    health = {
        "operationId": "health",
        "summary": "Ask whether the server works; needs no token",
        "security": [],
        "responses": {"200": {"description": "It does.", "content": as_json({"type": "object"}, HEALTH)}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "capcli", "version": __version__, "summary": "Captions photos, and shows where it looked"},
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/v1/caption": {"post": caption},
            "/v1/explain": {"post": explain},
            "/v1/attention": {"post": attention},
            "/health": {"get": health},
        },
    }
