"""The routes under `/v2`."""

from __future__ import annotations

from enum import Enum
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from serve.api.assessing import check_room
from serve.api.context import Context
from serve.api.inference_protocol.models import VERSION, ProtocolModel, find_protocol_model
from serve.api.inference_protocol.shapes import (
    InferAnswer,
    InferRequestBody,
    ModelMetadata,
    ProtocolRefusal,
    ServerMetadata,
)
from serve.api.inference_protocol.tensors import (
    InferRequest,
    OutputTensor,
    ProtocolError,
    read_request,
    shown,
    write_answer,
)

_LENGTH = "Inference-Header-Content-Length"
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": ProtocolRefusal, "description": "The request is not as the protocol has it"},
    401: {"model": ProtocolRefusal, "description": "Whoever asks must say who they are"},
    404: {"model": ProtocolRefusal, "description": "There is no such model or version"},
    408: {"model": ProtocolRefusal, "description": "The body came too slowly"},
    413: {"model": ProtocolRefusal, "description": "Too many bytes"},
    415: {"model": ProtocolRefusal, "description": "The body is compressed"},
    429: {"model": ProtocolRefusal, "description": "Too many requests wait; `Retry-After` says when to come again"},
    500: {"model": ProtocolRefusal, "description": "The network failed at the images"},
    503: {"model": ProtocolRefusal, "description": "The server is stopping, or its audit log cannot be written"},
    504: {"model": ProtocolRefusal, "description": "The answer took longer than a request may take"},
}
_ANSWER: dict[str, Any] = {
    "description": "The outputs; binary ones behind the JSON, whose length is in `Inference-Header-Content-Length`",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_MISSING: dict[int | str, dict[str, Any]] = {404: _REFUSALS[404], 401: _REFUSALS[401]}
_STOPPING: dict[int | str, dict[str, Any]] = {503: {"description": "The server is stopping"}}
_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": InferRequestBody.model_json_schema()},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
_HEADER = {
    "name": _LENGTH,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
    "description": "Bytes of the JSON, where binary tensors are behind it",
}

_TAGS: list[str | Enum] = ["Open Inference Protocol"]

Name = Annotated[str, InPath(description="Name of a bundle, or with `-checked` for files and answers", max_length=200)]
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "maxLength": 20},
    "description": f"Always {VERSION}",
}


def add_inference_protocol_routes(app: FastAPI, context: Context) -> None:
    """Add the routes under `/v2`."""
    _add_server_routes(app, context)

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
        await check_room(context, request)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, "the body is compressed; send it as it is")
        with context.memory.reservation() as reserve:
            parts = []
            async for part in request.stream():
                reserve(len(part))
                parts.append(part)
            asked = read_request(b"".join(parts), request.headers.get(_LENGTH))
            parts.clear()
            wanted = _wanted(model, asked)
            outputs = await model.infer(context, request, asked)
        tensors = [OutputTensor(name, outputs[name], binary) for name, binary in wanted.items()]
        body, length = write_answer(model.name, VERSION, asked.id, tensors, model.parameters())
        if length is None:
            return Response(body, media_type="application/json")
        return Response(body, media_type="application/octet-stream", headers={_LENGTH: str(length)})

    answers: dict[str, Any] = {"tags": _TAGS, "response_model": InferAnswer, "responses": {200: _ANSWER, **_REFUSALS}}
    readiness: dict[str, Any] = {"tags": _TAGS, "response_class": Response, "responses": {**_MISSING, **_STOPPING}}
    for path, parameters in (("/v2/models/{name}", []), ("/v2/models/{name}/versions/{version}", [_VERSION])):
        extra: dict[str, Any] = {"parameters": parameters}
        app.get(path, tags=_TAGS, response_model=ModelMetadata, responses=_MISSING, openapi_extra=extra)(metadata)
        app.get(f"{path}/ready", **readiness, openapi_extra=extra)(model_ready)
        extra = {"requestBody": _BODY, "parameters": [*parameters, _HEADER]}
        app.post(f"{path}/infer", **answers, openapi_extra=extra)(infer)


def _add_server_routes(app: FastAPI, context: Context) -> None:
    @app.get("/v2", tags=_TAGS, response_model=ServerMetadata)
    async def server() -> Any:
        """Say what the server is."""
        return ServerMetadata(name="medsharp", version=version("medsharp"), extensions=["binary_tensor_data"])

    @app.get("/v2/health/live", tags=_TAGS, response_class=Response)
    async def live() -> Response:
        """Say that the server lives."""
        return Response(status_code=200)

    @app.get(
        "/v2/health/ready",
        tags=_TAGS,
        response_class=Response,
        responses=_STOPPING,
    )
    async def ready() -> Response:
        """Say whether the server takes requests."""
        return _ready(context)


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
