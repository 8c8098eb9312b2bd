"""Whether the server lives and whether it takes requests, and what it counts; all answered at once under any load."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from serve.api.context import Context
from serve.api.refusals import DOOR, OPEN, refusals
from serve.metrics import CONTENT_TYPE
from serve.security.access import who_asks
from serve.security.gate import NOTICE


class Liveness(BaseModel):
    """That the server lives: all that is told to who does not log in where others do."""

    status: Literal["ok"] = Field(description="Always `ok`")


class Health(Liveness):
    """That the server lives, and with which model."""

    version: str = Field(description="Version of medsharp")
    model: str = Field(description="Name of the default bundle")
    digest: str = Field(description="SHA-256 of its `bundle.yaml`, which has those of its files")
    notice: str = NOTICE


class Readiness(BaseModel):
    """Whether the server takes requests: all that is told to who does not log in where others do."""

    status: Literal["ready", "stopping"] = Field(description="`stopping`: it finishes what it has and takes no more")


class ModelReadiness(Readiness):
    """Whether the server takes requests, and for which models."""

    models: list[str] = Field(description="Names of the bundles, the default first")
    notice: str = NOTICE


_HEALTH = Health(status="ok", version="1.0.0", model="bus-lite0", digest="0" * 64)
_READINESS = ModelReadiness(status="ready", models=["bus-lite0"])
_METRICS = """# HELP medsharp_requests_inside Requests that came whole and are not answered
# TYPE medsharp_requests_inside gauge
medsharp_requests_inside 2.0
"""


def add_health_routes(app: FastAPI, context: Context) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`: coroutines, since a thread of the pool may be a long time in coming."""

    def tells_all(request: Request) -> bool:
        return not context.has_login or who_asks(request).name is not None

    @app.get(
        "/healthz",
        response_model=Health | Liveness,
        responses={200: _either(_HEALTH, Liveness(status="ok")), **refusals(OPEN)},
        summary="Is the server up, and with which model?",
        tags=["health"],
    )
    @app.head("/healthz", include_in_schema=False)
    async def healthz(request: Request) -> Any:
        """Answer at once under any load; without a login, where others log in, nothing but the status."""
        if not tells_all(request):
            return Liveness(status="ok")
        predictor = context.models.default.predictor
        return Health(status="ok", version=version("medsharp"), model=predictor.spec.name, digest=predictor.digest)

    stopping = _READINESS.model_copy(update={"status": "stopping"})

    @app.get(
        "/readyz",
        response_model=ModelReadiness | Readiness,
        responses={
            200: _either(_READINESS, Readiness(status="ready")),
            503: {
                "model": ModelReadiness | Readiness,
                "description": "The server is stopping",
                **_either(stopping, Readiness(status="stopping")),
            },
            **refusals(OPEN),
        },
        summary="Does the server take requests?",
        tags=["health"],
    )
    @app.head("/readyz", include_in_schema=False)
    async def readyz(request: Request) -> Any:
        """Answer at once under any load; without a login, where others log in, nothing but the status."""
        is_open = context.shared.admission.is_open
        answer = Readiness(status="ready" if is_open else "stopping")
        if tells_all(request):
            answer = ModelReadiness(status=answer.status, models=list(context.models.names))
        return JSONResponse(answer.model_dump(), 200 if is_open else 503)

    text = {"text/plain": {"schema": {"type": "string"}, "example": _METRICS}}

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": text, "description": "Prometheus' text"}, **refusals(DOOR)},
        summary="What the server counts, as Prometheus reads it",
        tags=["health"],
    )
    async def metrics() -> Response:
        return Response(context.shared.metrics.exposition(), headers={"content-type": CONTENT_TYPE})


def _either(all_of_it: BaseModel, status_alone: BaseModel) -> dict[str, Any]:
    examples = {"all of it": all_of_it, "without the login that others have": status_alone}
    values = {name: {"value": example.model_dump()} for name, example in examples.items()}
    return {"content": {"application/json": {"examples": values}}}
