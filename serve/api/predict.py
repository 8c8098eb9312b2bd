"""`POST /v1/predict`, and `POST /predict` as it was before."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from serve.api.answers import EXAMPLE, FAILED, HEATMAP_SIDE, ImageAnswer, answer
from serve.api.assessing import assess
from serve.api.context import Context
from serve.api.model import NO_MODEL, find_model
from serve.api.refusals import BODY, Reason, Refusal, Responses, refusal, refusals, with_example
from serve.api.wishes import NAME, PARAMETERS, Parameter, assert_known, read_wishes
from serve.engine import Assessment
from serve.uploads.bodies import RAW_TYPES, read_images
from serve.uploads.forms import said_once

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_FORM_SCHEMA = {
    "type": "object",
    "anyOf": [{"required": ["files"]}, {"required": ["file"]}],
    "additionalProperties": False,
    "properties": {
        "files": {**_FILES, "description": "One or several images"},
        "file": {**_FILES, "description": "The same, under another name"},
        **{name: {**one.schema, "description": one.meaning} for name, one in PARAMETERS.items()},
    },
}
_FORM_EXAMPLE = {"files": ["(the bytes of left.png)", "(the bytes of right.dcm)"], "heatmap": "1"}
_BINARY = {"schema": {"type": "string", "format": "binary"}, "example": "(the bytes of a file)"}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM_SCHEMA, "example": _FORM_EXAMPLE},
        **dict.fromkeys(RAW_TYPES, _BINARY),
    },
}
_NAME = Parameter(
    {"type": "string"},
    "What a file that is the whole body is called in its answer; a form has a name for each",
    "left.png",
)
_QUERY = [one.in_query(name) for name, one in {**PARAMETERS, NAME: _NAME}.items()]


def _either(sentence: str, failed: dict[str, Any]) -> dict[str, Any]:
    """Describe an answer that is a list like that of 200, or a sentence in its place."""
    examples = {"of each image": [failed], "of the request": refusal(Refusal, sentence)}
    values = {name: {"value": value} for name, value in examples.items()}
    return {"model": list[ImageAnswer] | Refusal, "content": {"application/json": {"examples": values}}}


_FAULT = {**FAILED, "error": "scan.png: the server failed at it (MemoryError); its log says where"}
_RESPONSES: Responses = {
    200: {"description": "An entry an image, in the order sent", **with_example([EXAMPLE])},
    **refusals(
        {
            **BODY,
            400: Reason("The body is not a form", "the form ends before its last boundary; send it whole"),
            404: NO_MODEL,
            415: Reason(
                "The body is of another type",
                "the body's type is text/plain; send a form (multipart/form-data) with 'files', or a file as image/*",
            ),
        }
    ),
    422: {
        "description": "No image at all, or none that can be read, or a wish that makes no sense",
        **_either("heatmap must be 0 or 1", FAILED),
    },
    500: {
        "description": "The server failed at every image; its log says where",
        **_either(BODY[500].sentence, _FAULT),
    },
}


_LENGTH = 2**10
"""Bytes of an image's answer, roughly, without its heat map."""


def add_predict_routes(app: FastAPI, context: Context) -> None:
    """Add `/v1/predict` and `/predict`."""

    @app.post(
        "/v1/predict",
        response_model=list[ImageAnswer],
        openapi_extra={"requestBody": _BODY, "parameters": _QUERY},
        responses=_RESPONSES,
        summary="Assess one or several images",
        tags=["predict"],
    )
    async def predict(request: Request) -> Any:
        """Answer one entry an image, in the order sent: of a form, or of one file as the body; each may be an archive.

        An image that cannot be read has its reason under `error`, one that a check refuses has its `findings` and nulls
        in place of numbers; neither stops the others. The status is 200 when at least one image could be read, refused
        ones too, and 422, with the same list, when none could.
        """
        return await _predict(context, request)

    @app.post(
        "/predict",
        response_model=list[ImageAnswer],
        openapi_extra={"requestBody": _BODY, "parameters": _QUERY},
        responses=_RESPONSES,
        summary="The same, under its name of before",
        tags=["predict"],
    )
    async def predict_as_before(request: Request) -> Any:
        """Answer as `/v1/predict` does."""
        return await _predict(context, request)


async def _predict(context: Context, request: Request) -> Response:
    # The whole body arrives before the request is counted: a slow client keeps nobody waiting.
    async with read_images(request, context.limits, context.memory) as form:
        query = said_once(request.query_params.multi_items(), "the address")
        assert_known(query, form.fields)
        wishes = read_wishes(query, form.fields, len(form.contents))
        served = find_model(context, wishes.model)
        assessments = await assess(
            context,
            request,
            served,
            form.contents,
            form.names,
            heatmap_side=HEATMAP_SIDE if wishes.heatmap else None,
            options=wishes.options,
        )
    threshold = served.predictor.spec.operating_point.threshold
    size = sum(_LENGTH + len(one.heatmap or "") for one in assessments)
    body = await context.shared.lanes.aside(size, partial(_body, assessments, threshold))
    return Response(body, _status(assessments), media_type="application/json")


def _body(assessments: list[Assessment], threshold: float) -> bytes:
    """Write answers as JSON, one by one: other threads have their turn in between."""
    return b"[" + b",".join(answer(one, threshold).model_dump_json().encode() for one in assessments) + b"]"


def _status(assessments: list[Assessment]) -> int:
    if any(one.prediction.error is None for one in assessments):
        return 200
    return 500 if any(one.is_fault for one in assessments) else 422
