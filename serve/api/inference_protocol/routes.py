"""The routes under `/v2`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from serve.api.context import Context
from serve.api.inference_protocol.description import (
    ANSWER,
    ASKED,
    ENCODING,
    HEADER,
    INFER_BODY,
    LENGTH,
    METADATA,
    REFUSALS,
    SERVER,
    STOPPING,
    UNKNOWN_ENCODING,
    VERSION_IN_PATH,
    Name,
)
from serve.api.inference_protocol.models import VERSION, ProtocolModel, find_protocol_model
from serve.api.inference_protocol.shapes import InferAnswer, ModelMetadata, ServerMetadata
from serve.api.inference_protocol.tensors import (
    InferRequest,
    OutputTensor,
    ProtocolError,
    read_request,
    write_answer,
)
from serve.api.refusals import DOOR, ProtocolRefusal, refusals, with_example
from serve.uploads.bodies import joined
from serve.uploads.compressed import ENCODINGS, unpack
from serve.uploads.uploads import shown

_TAGS: list[str | Enum] = ["Open Inference Protocol"]


def add_inference_protocol_routes(app: FastAPI, context: Context) -> None:
    """Add the routes under `/v2`."""
    _add_server_routes(app, context)
    lanes = context.shared.lanes

    async def metadata(request: Request, name: Name) -> Any:
        """Say what a model takes and gives."""
        return _find(context, request, name).metadata()

    async def model_ready(request: Request, name: Name) -> Response:
        """Say whether a model takes requests."""
        _find(context, request, name)
        return _ready(context)

    async def infer(request: Request, name: Name) -> Response:
        """Run a model on tensors, or `NAME-checked` on files. The input checks see files only, never tensors."""
        model = _find(context, request, name)
        with context.memory.reservation() as reserve:
            body = await _read_body(request, context.limits.max_request_bytes, reserve)
            asked = await lanes.aside(len(body), partial(read_request, body, request.headers.get(LENGTH)))
            del body
            wanted = _wanted(model, asked)
            outputs = await model.infer(context, request, asked)
        tensors = [OutputTensor(name, outputs[name], binary) for name, binary in wanted.items()]
        written = partial(write_answer, model.name, VERSION, asked.id, tensors, model.parameters())
        answer, length = await lanes.aside(sum(one.size for one in tensors), written)
        if length is None:
            return Response(answer, media_type="application/json")
        return Response(answer, media_type="application/octet-stream", headers={LENGTH: str(length)})

    about: dict[str, Any] = {
        "tags": _TAGS,
        "summary": "What does a model take and give?",
        "response_model": ModelMetadata,
        "responses": {200: with_example(METADATA), **ASKED},
    }
    readiness: dict[str, Any] = {
        "tags": _TAGS,
        "summary": "Does a model take requests?",
        "response_class": Response,
        "responses": {**ASKED, **STOPPING},
    }
    answers: dict[str, Any] = {
        "tags": _TAGS,
        "summary": "Run a model",
        "response_model": InferAnswer,
        "responses": {200: ANSWER, **REFUSALS},
    }
    for path, parameters in (("/v2/models/{name}", []), ("/v2/models/{name}/versions/{version}", [VERSION_IN_PATH])):
        extra: dict[str, Any] = {"parameters": parameters}
        app.get(path, **about, openapi_extra=extra)(metadata)
        app.get(f"{path}/ready", **readiness, openapi_extra=extra)(model_ready)
        extra = {"requestBody": INFER_BODY, "parameters": [*parameters, HEADER, ENCODING]}
        app.post(f"{path}/infer", **answers, openapi_extra=extra)(infer)


def _add_server_routes(app: FastAPI, context: Context) -> None:
    door = refusals(DOOR, ProtocolRefusal)
    about: dict[str, Any] = {"tags": _TAGS, "responses": {200: with_example(SERVER), **door}}
    empty: dict[str, Any] = {"tags": _TAGS, "response_class": Response}

    @app.get("/v2", response_model=ServerMetadata, summary="What is the server?", **about)
    async def server() -> Any:
        """Say what the server is."""
        return ServerMetadata(name="medsharp", version=version("medsharp"), extensions=["binary_tensor_data"])

    @app.get("/v2/health/live", responses=door, summary="Is the server up?", **empty)
    async def live() -> Response:
        """Say that the server lives."""
        return Response(status_code=200)

    @app.get("/v2/health/ready", responses={**door, **STOPPING}, summary="Does the server take requests?", **empty)
    async def ready() -> Response:
        """Say whether the server takes requests."""
        return _ready(context)


async def _read_body(request: Request, most: int, reserve: Callable[[int], None]) -> bytes:
    """Read a body, unpacked where it is compressed; `reserve` counts its bytes, as they came and unpacked.

    Raises:
        HTTPException: 415, it is compressed otherwise than by gzip or deflate, and as `unpack` says.
        BusyError: From `reserve`.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity" and encoding not in ENCODINGS:
        raise HTTPException(415, UNKNOWN_ENCODING)
    parts = []
    async for part in request.stream():
        reserve(len(part))
        parts.append(part)
    if encoding != "identity":
        parts = await asyncio.to_thread(unpack, parts, encoding, most, reserve)
    return await joined(parts, sum(map(len, parts)))


def _ready(context: Context) -> Response:
    return Response(status_code=200 if context.shared.admission.is_open else 503)


def _find(context: Context, request: Request, name: str) -> ProtocolModel:
    model = find_protocol_model(context, name)
    if model is None:
        raise HTTPException(404, f"there is no model {shown(name)} here; there is {', '.join(context.models.names)}")
    if request.path_params.get("version", VERSION) != VERSION:
        raise HTTPException(404, f"{name} has version {VERSION} only")
    return model


def _wanted(model: ProtocolModel, asked: InferRequest) -> dict[str, bool]:
    """Return the names of the outputs that are wanted, each with whether in binary form."""
    there = [output.name for output in model.metadata().outputs]
    if asked.outputs is None:
        return dict.fromkeys(there, asked.binary)
    for name in asked.outputs:
        if name not in there:
            raise ProtocolError(f"{model.name} has no output {shown(name)}; it has {', '.join(there)}")
    return asked.outputs
