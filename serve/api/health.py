"""Whether the server lives and whether it takes requests, and what it counts; all answered at once under any load."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from serve.api.context import Context
from serve.metrics import CONTENT_TYPE
from serve.security.gate import NOTICE


class Health(BaseModel):
    """That the server lives, and with which model."""

    status: str = Field(description="Always `ok`")
    version: str = Field(description="Version of medsharp")
    model: str = Field(description="Name of the default bundle")
    digest: str = Field(description="SHA-256 of the bundle's model file")
    notice: str = NOTICE


class Readiness(BaseModel):
    """Whether the server takes requests."""

    status: Literal["ready", "stopping"] = Field(description="`stopping`: it finishes what it has and takes no more")
    models: list[str] = Field(description="Names of the bundles, the default first")
    notice: str = NOTICE


def add_health_routes(app: FastAPI, context: Context) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`: coroutines, since a thread of the pool may be a long time in coming."""

    @app.get("/healthz", response_model=Health, summary="Is the server up, and with which model?", tags=["health"])
    @app.head("/healthz", include_in_schema=False)
    async def healthz() -> Any:
        spec = context.models.default.predictor.spec
        return Health(status="ok", version=version("medsharp"), model=spec.name, digest=spec.files["model.onnx"])

    @app.get(
        "/readyz",
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "The server is stopping"}},
        summary="Does the server take requests?",
        tags=["health"],
    )
    @app.head("/readyz", include_in_schema=False)
    async def readyz() -> Any:
        is_open = context.shared.admission.is_open
        answer = Readiness(status="ready" if is_open else "stopping", models=list(context.models.names))
        return JSONResponse(answer.model_dump(), 200 if is_open else 503)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text"}},
        summary="What the server counts, as Prometheus reads it",
        tags=["health"],
    )
    async def metrics() -> Response:
        return Response(context.shared.metrics.exposition(), headers={"content-type": CONTENT_TYPE})
