"""`POST /v1/predict`, and `POST /predict` as it was before."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from serve.api.answers import HEATMAP_SIDE, ImageAnswer, Refusal, answer
from serve.api.assessing import assess, check_room
from serve.api.context import Context
from serve.api.model import find_model
from serve.api.wishes import PARAMETERS, read_wishes
from serve.engine import Assessment
from serve.uploads.bodies import RAW_TYPES, read_images

_FORM_SCHEMA = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "One or several images; the field may also be called `file`",
        },
        **{name: {**schema, "description": about} for name, (schema, about) in PARAMETERS.items()},
    },
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": _FORM_SCHEMA},
        **dict.fromkeys(RAW_TYPES, _BINARY),
    },
}
_QUERY = [
    {"name": name, "in": "query", "required": False, "schema": schema, "description": about}
    for name, (schema, about) in PARAMETERS.items()
]
_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The body is not a form"},
    401: {"model": Refusal, "description": "Whoever asks must say who they are"},
    404: {"model": Refusal, "description": "There is no model of that name"},
    408: {"model": Refusal, "description": "The body came too slowly"},
    413: {"model": Refusal, "description": "Too many bytes or too many images"},
    415: {"model": Refusal, "description": "The body is of another type"},
    422: {"model": list[ImageAnswer] | Refusal, "description": "No image at all, or none that can be read"},
    429: {"model": Refusal, "description": "Too many requests wait; `Retry-After` says when to come again"},
    500: {"model": list[ImageAnswer] | Refusal, "description": "The server failed at every image; its log says where"},
    503: {"model": Refusal, "description": "The server is stopping, or its audit log cannot be written"},
    504: {"model": Refusal, "description": "The answer took longer than a request may take"},
}


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


async def _predict(context: Context, request: Request) -> JSONResponse:
    await check_room(context, request)
    # The whole body arrives before the request is counted: a slow client keeps nobody waiting.
    async with read_images(request, context.limits, context.memory) as form:
        wishes = read_wishes(request.query_params, form.fields, len(form.contents))
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
    answers = [answer(assessment, threshold).model_dump() for assessment in assessments]
    return JSONResponse(answers, _status(assessments))


def _status(assessments: list[Assessment]) -> int:
    if any(one.prediction.error is None for one in assessments):
        return 200
    return 500 if any(one.is_fault for one in assessments) else 422
