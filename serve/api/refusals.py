"""Why a request is not served, as `/openapi.json` tells it: each status with a sentence, and the headers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from serve.engine.capacity import RETRY_AFTER
from serve.security.gate import NOTICE

Responses = dict[int | str, dict[str, Any]]
"""What a route may answer, as FastAPI takes it."""


class Refusal(BaseModel):
    """Why a request was not served."""

    detail: str = Field(description="One sentence")
    notice: str = NOTICE


class ProtocolRefusal(BaseModel):
    """Why a request was not served, as the Open Inference Protocol has it."""

    error: str = Field(description="One sentence")
    notice: str = NOTICE


@dataclass(frozen=True)
class Reason:
    """Why a status is answered.

    Attributes:
        when: In general.
        sentence: One that goes with it.
    """

    when: str
    sentence: str


DOOR: Mapping[int, Reason] = {
    401: Reason("Whoever asks must say who they are", "log in: user and password, or a key, are needed"),
    421: Reason(
        "The server is not asked by that name", "this server is not asked by that name; --allowed-host lets it be"
    ),
    429: Reason("Too many attempts to log in failed", "too many attempts to log in failed; try again in 30 s"),
    500: Reason(
        "The server failed; its log says where", "the server failed at this request (OSError); its log says where"
    ),
}
"""Of every route but those that are open to all."""

OPEN: Mapping[int, Reason] = {status: DOOR[status] for status in (421, 500)}
"""Of `/healthz` and `/readyz`."""

BODY: Mapping[int, Reason] = {
    **DOOR,
    403: Reason("A page of another origin sends it", "a page of another origin may not send this"),
    408: Reason("The body came too slowly", "the body is 60 seconds behind one of 64 KiB a second; send it again"),
    413: Reason("Too many bytes or images", "the request is larger than 256 MiB; send fewer or smaller images"),
    429: Reason(
        "Too many requests wait, or too many attempts to log in failed",
        f"the server is busy: 64 requests wait already; send this one again in {RETRY_AFTER} seconds",
    ),
    503: Reason(
        "The server is stopping, or its audit log cannot be written",
        "the server is stopping; send this one again in a while",
    ),
    504: Reason(
        "The answer took longer than a request may take",
        "the request was not answered within 120 seconds and was given up; send fewer images, or come again later",
    ),
}
"""Of routes that take images."""

_RETRY_AFTER: dict[str, Any] = {
    "description": "Seconds after which it may be sent again",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
    "example": str(RETRY_AFTER),
}
_HEADERS: Mapping[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "`Basic` where there are users, `Bearer` where there are keys",
            "schema": {"type": "string"},
            "example": 'Basic realm="medsharp", charset="UTF-8"',
        }
    },
    429: {"Retry-After": {**_RETRY_AFTER, "required": True}},
    503: {"Retry-After": _RETRY_AFTER},
}


def with_example(example: Any, media_type: str = "application/json") -> dict[str, Any]:
    """Describe an answer by an example of it."""
    return {"content": {media_type: {"example": example}}}


def refusal(shape: type[BaseModel], sentence: str) -> dict[str, Any]:
    """Return a refusal of a shape, whose first field is the sentence."""
    return shape(**{next(iter(shape.model_fields)): sentence}).model_dump()


def refusals(reasons: Mapping[int, Reason], shape: type[BaseModel] = Refusal) -> Responses:
    """Describe refusals, each with an example.

    Args:
        reasons: By status.
        shape: Of the answers; its first field is the sentence.
    """
    return {
        status: {
            "model": shape,
            "description": reason.when,
            "headers": _HEADERS.get(status, {}),
            **with_example(refusal(shape, reason.sentence)),
        }
        for status, reason in sorted(reasons.items())
    }
