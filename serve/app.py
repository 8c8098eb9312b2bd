"""The application: the API's routes, and the page mounted at `/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from medsharp.inference import Predictor
from serve.api.context import Context
from serve.api.description import complete_description
from serve.api.docs import add_docs_route
from serve.api.errors import Faults, add_refusals
from serve.api.health import add_health_routes
from serve.api.inference_protocol import add_inference_protocol_routes
from serve.api.inference_protocol.shapes import InferRequestBody
from serve.api.model import add_model_routes
from serve.api.overload import OverloadRefusals
from serve.api.predict import add_predict_routes
from serve.api.requests import CountedRequests, NotedRoutes
from serve.engine import Batching, Shared
from serve.engine.capacity import Admission, Memory
from serve.engine.lanes import Lanes
from serve.metrics import Metrics
from serve.models import Models
from serve.models.models import Load
from serve.security.gate import NOTICE, Gate
from serve.security.proxies import Forwarded
from serve.security.settings import Security, with_password
from serve.uploads.uploads import Limits, Uploads, close_cache, open_cache


def _description(positive: str) -> str:
    return f"""Probability of the class {positive} for a lesion in a breast-ultrasound image. **{NOTICE}** Research \
software.

Send PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM images to `POST /v1/predict`; of a DICOM clip the sharpest frame is used.
Images are kept in memory while the request lasts. Neither they nor their names are written to a disk or to a log."""


def create_app(
    bundles: str | Path | Predictor | Sequence[str | Path | Predictor],
    *,
    auth: tuple[str, str] | None = None,
    limits: Limits | None = None,
    batching: Batching | None = None,
    load: Load | None = None,
    security: Security | None = None,
    one_of_several: bool = False,
) -> FastAPI:
    """Build the application that serves one or several bundles: the API, and the page at `/`.

    Args:
        bundles: Folders of bundles, or predictors that have loaded them; the first answers where a request names none.
        auth: User and password; asked for with HTTP basic authentication on every path but `/healthz`
            and `/readyz`, which then tell no more than a status.
        limits: How much one request may bring, and all together.
        batching: How images are gathered for the network; by default as measured for its device.
        load: Loads a bundle from its folder, also when the models are reloaded; `Predictor.load` by default.
        security: Who may ask, by which names, and what is written of it; in place of `auth`.
        one_of_several: It shares its address with others, each of which sees some of the requests: then there is no
            page, which keeps uploads from one request to the next, and no `/metrics`, which would be those of one.

    Raises:
        InputError: A bundle is missing or damaged or looks at the lesion only, two have the same name, a predictor
            answers what a check refuses, or the user name or password cannot be used.
    """
    limits = limits or Limits()
    if security is None:
        security = Security() if auth is None else with_password(auth)
    given = [bundles] if isinstance(bundles, str | Path | Predictor) else list(bundles)
    shared = Shared(Lanes(), Admission(limits.max_waiting), Metrics())
    models = Models(given, shared, limits, load=load or Predictor.load, batching=batching or Batching())
    memory = Memory(limits.max_held_bytes)
    uploads = None if one_of_several else Uploads(memory)
    context = Context(models, limits, memory, shared, security.audit, security.login is not None)
    _watch(context)
    app = FastAPI(
        title="medsharp",
        version=version("medsharp"),
        description=_description(models.default.predictor.spec.positive),
        docs_url=None,  # Its usual page loads scripts from another host.
        redoc_url=None,
        lifespan=partial(_lifespan, uploads, context),
    )
    app.state.models, app.state.memory, app.state.uploads = models, memory, uploads
    app.state.admission, app.state.metrics = shared.admission, shared.metrics
    if uploads is None:
        _refuse_what_is_of_one(app)
    routes = (add_health_routes, add_model_routes, add_predict_routes, add_inference_protocol_routes, add_docs_route)
    for add_routes in routes:
        add_routes(app, context)
    add_refusals(app)
    complete_description(app, has_login=context.has_login, bodies=[InferRequestBody])
    if uploads is not None:
        from serve.page.page import mount_page

        mount_page(app, context, uploads)
    # The last one is the outermost: the door asks for the client's address, and gives each answer its headers.
    app.add_middleware(NotedRoutes)
    app.add_middleware(Faults)
    app.add_middleware(OverloadRefusals, check=models.check)
    app.add_middleware(
        Gate, security=security, max_request_bytes=limits.max_request_bytes, body_seconds=limits.body_seconds
    )
    app.add_middleware(Forwarded, proxies=security.proxies)
    app.add_middleware(CountedRequests, metrics=shared.metrics)
    return app


def _refuse_what_is_of_one(app: FastAPI) -> None:
    """Answer for the page and the metrics, before the routes that would give those of one replica."""

    @app.get("/", include_in_schema=False)
    async def page() -> None:
        raise HTTPException(404, "replicas on Ray answer here, which have no page: see docs, or serve without --ray")

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> None:
        raise HTTPException(404, "replicas on Ray answer here, each of which counts for itself: see Ray's own metrics")


def _watch(context: Context) -> None:
    watch, shared = context.shared.metrics.watch, context.shared
    watch("medsharp_requests_inside", "Requests that came whole and are not answered", lambda: shared.admission.inside)
    watch("medsharp_queue_depth", "Images that wait for the network", lambda: context.models.depth)
    watch("medsharp_held_bytes", "Bytes of uploads in memory", lambda: context.memory.held)


@asynccontextmanager
async def _lifespan(uploads: Uploads | None, context: Context, app: FastAPI) -> AsyncIterator[None]:
    if uploads is not None:
        open_cache()
    context.shared.admission.open()
    try:
        yield
    finally:
        context.shared.admission.close()
        if uploads is not None:
            uploads.clear()
            close_cache()
