"""The HTTP API: `/healthz`, `/model`, `POST /predict`, its description, and the page mounted at `/`."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from medsharp.errors import InputError
from medsharp.inference import Predictor
from medsharp.inference.checks import Status
from medsharp.inference.prediction import Side
from serve.api.model import Model, describe
from serve.engine.assess import Assessment, Assessor, is_missing
from serve.engine.capacity import RETRY_AFTER, BusyError, Memory, Result, WorkQueue
from serve.security.gate import NOTICE, Gate, refuse
from serve.uploads.forms import Form, read_form
from serve.uploads.uploads import Limits, Uploads, close_cache, open_cache

_HEATMAP_SIDE = 1024
"""Longest side of a heat map in pixels; drawing a 40-megapixel one would keep all others waiting."""

_GONE = 499
"""Status of an answer that nobody receives, since the client has left."""


def _description(positive: str) -> str:
    return f"""Probability of the class {positive} for a lesion in a breast-ultrasound image. **{NOTICE}** Research \
software.

Send PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM images to `POST /predict`; of a DICOM clip the sharpest frame is used.
Images are kept in memory while the request lasts. Neither they nor their names are written to a disk or to a log."""


class Health(BaseModel):
    """That the server works, and with which model."""

    status: str = Field(description="Always `ok`")
    version: str = Field(description="Version of medsharp")
    model: str = Field(description="Name of the bundle")
    digest: str = Field(description="SHA-256 of the bundle's model file")
    notice: str = NOTICE


class ImageAnswer(BaseModel):
    """What the model says of one image, or why it says nothing."""

    name: str = Field(description="File name as sent, without folders and control characters")
    probabilities: dict[str, float] | None = Field(description="Calibrated probability of each class")
    positive_probability: float | None = Field(description="Calibrated probability of the positive class")
    threshold: float = Field(description="Operating point, fixed on the model's internal validation data")
    side: Side | None = Field(description="`above` from the threshold on, or `below`")
    margin: float | None = Field(description="Distance to the threshold in log odds, negative below it")
    status: Status = Field(
        description="`answered`, `cautioned` (answered, and `reasons` say what to mind), `refused` (`reasons` say why; "
        "no number) or `failed` (`error` says why)"
    )
    reasons: list[str] = Field(description="What the checks found: why there is no number, or what to mind about it")
    checks: list[str] = Field(
        description="Which checks found that, in the same order, as `refusal:key` or `caution:key`"
    )
    flags: list[str] = Field(description="How the file was read")
    error: str | None = Field(description="Why the image could not be assessed")
    heatmap: str | None = Field(
        default=None,
        description="PNG data URI, the image under the heat map (warm places speak for the positive class, cold ones "
        f"against it), at most {_HEATMAP_SIDE} pixels high and wide; with `heatmap=1` only",
    )
    heatmap_empty: bool | None = Field(
        default=None,
        description="Whether the heat map shows nothing, as the answer lies at the operating point; with `heatmap=1` "
        "only",
    )
    model: str = Field(description="Name of the bundle")
    digest: str = Field(description="SHA-256 of its `bundle.yaml`, which has those of its files")
    seconds: float = Field(description="Wall time of reading the image and of the network")
    notice: str = NOTICE


class Refusal(BaseModel):
    """Why a request was not served."""

    detail: str
    notice: str = NOTICE


_REQUEST_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "One or several images; the field may also be called `file`",
                    },
                    "heatmap": {"type": "string", "enum": ["0", "1"], "description": "1 adds heat maps"},
                },
            }
        }
    },
}


def create_app(
    bundle: str | Path | Predictor, *, auth: tuple[str, str] | None = None, limits: Limits | None = None
) -> FastAPI:
    """Build the application that serves one bundle: the API, and the page at `/`.

    Args:
        bundle: Folder of the bundle, or a predictor that has loaded one.
        auth: User and password; asked for with HTTP basic authentication on every path but `/healthz`.
        limits: How much one request may bring, and all together.

    Raises:
        InputError: The bundle is missing or damaged or looks at the lesion only, the predictor answers what a check
            refuses, or the user name or password cannot be used.
    """
    from serve.page.page import mount_page

    limits = limits or Limits()
    _check_auth(auth)
    predictor = Predictor.load(bundle) if isinstance(bundle, str | Path) else bundle
    if predictor.preprocessing.crop == "lesion":
        raise InputError(
            f"{predictor.spec.name} looks at the lesion only, which an upload does not show it; "
            "use medsharp predict with a manifest, or with --box"
        )
    if predictor.answer_anyway:
        raise InputError(
            f"{predictor.spec.name} was loaded to answer refused images too, which a server never does; "
            "use medsharp predict --answer-anyway"
        )
    assessor = Assessor(predictor, limits.max_file_bytes)
    queue, memory = WorkQueue(limits.max_waiting), Memory(limits.max_held_bytes)
    uploads = Uploads(memory)
    app = FastAPI(
        title="medsharp",
        version=version("medsharp"),
        description=_description(predictor.spec.positive),
        docs_url=None,  # Its usual page loads scripts from another host.
        redoc_url=None,
        lifespan=partial(_lifespan, uploads),
    )
    app.state.queue, app.state.memory, app.state.uploads = queue, memory, uploads
    _add_routes(app, assessor, limits, queue, memory)
    _add_refusals(app)
    mount_page(app, assessor, limits, queue, memory, uploads)
    app.add_middleware(Gate, auth=auth, max_request_bytes=limits.max_request_bytes, body_seconds=limits.body_seconds)
    return app


def _add_routes(app: FastAPI, assessor: Assessor, limits: Limits, queue: WorkQueue, memory: Memory) -> None:
    """Add the API's routes: all of them coroutines, since a thread of the pool may be a long time in coming."""
    spec = assessor.predictor.spec
    threshold = spec.operating_point.threshold
    health = Health(status="ok", version=version("medsharp"), model=spec.name, digest=spec.files.get("model.onnx", ""))

    @app.get("/healthz", response_model=Health, summary="Is the server up, and with which model?")
    @app.head("/healthz", include_in_schema=False)
    async def healthz() -> Any:
        return health

    model = describe(assessor.predictor)

    @app.get("/model", response_model=Model, summary="What is the model, and how did it do?")
    async def about() -> Any:
        return model

    @app.post(
        "/predict",
        response_model=list[ImageAnswer],
        openapi_extra={"requestBody": _REQUEST_BODY},
        responses={
            400: {"model": Refusal, "description": "The body is not a form"},
            401: {"model": Refusal, "description": "User and password are needed"},
            408: {"model": Refusal, "description": "The body stopped arriving"},
            413: {"model": Refusal, "description": "Too many bytes or too many images"},
            422: {"model": list[ImageAnswer] | Refusal, "description": "No image at all, or none that can be read"},
            503: {"model": Refusal, "description": "Too many requests wait; `Retry-After` says when to come again"},
        },
        summary="Assess one or several images",
    )
    async def predict(request: Request) -> Any:
        """Answer one entry an image, in the order sent.

        An image that cannot be read has its reason under `error`, one that a check refuses has its `reasons` and nulls
        in place of numbers; neither stops the others. The status is 200 when at least one image could be read, refused
        ones too, and 422, with the same list, when none could.
        """
        # The whole body arrives before the request waits for its turn: a slow client keeps nobody waiting.
        async with read_form(request, limits, memory) as form:
            side = _HEATMAP_SIDE if _switch(form, "heatmap") else None
            work = partial(assessor.assess, form.contents, form.names, heatmap_side=side)
            assessments = await _unless_gone(request, queue.run(work))
        answers = [answer(assessment, threshold) for assessment in assessments]
        status = 422 if all(entry.error is not None for entry in answers) else 200
        return JSONResponse([entry.model_dump() for entry in answers], status)

    docs = _docs_page(spec.name)

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    async def docs_page() -> str:
        return docs


def _add_refusals(app: FastAPI) -> None:
    """Say what is wrong with a request in one sentence, and refuse methods that a path does not have.

    The page is mounted at `/`, and would answer them 404.
    """
    allowed: dict[str, set[str]] = {}
    for route in app.routes:
        if isinstance(route, Route):
            allowed.setdefault(route.path, set()).update(route.methods or ())
    app.router.routes += [Route(path, _OtherMethod(path, methods)) for path, methods in allowed.items()]

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> JSONResponse:
        return refuse(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return refuse(503, str(error), {"Retry-After": str(RETRY_AFTER)})

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)


class _OtherMethod:
    """ASGI application that answers a request with a method that its path does not have."""

    def __init__(self, path: str, methods: set[str]) -> None:
        self._allowed = ", ".join(sorted(methods))
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = f"{self._path} takes {self._allowed}, not {scope['method']}; /docs says how"
        await refuse(405, sentence, {"Allow": self._allowed})(scope, receive, send)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work, and give it up when the client leaves, so that it takes no turn.

    Raises:
        ClientDisconnect: The client has left.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _switch(form: Form, name: str) -> bool:
    value = form.fields.get(name, "0").lower()
    if value not in ("0", "1", "false", "true"):
        raise HTTPException(422, f"{name} must be 0 or 1")
    return value in ("1", "true")


def answer(assessment: Assessment, threshold: float) -> ImageAnswer:
    """Say in JSON's terms what the model says of one image; one that failed or was refused has null for numbers."""
    prediction = assessment.prediction
    missing = is_missing(prediction.positive_probability)
    return ImageAnswer(
        name=prediction.name,
        probabilities=None if missing else {name: float(value) for name, value in prediction.probabilities.items()},
        positive_probability=None if missing else float(prediction.positive_probability),
        threshold=threshold,
        side=prediction.side,
        margin=None if missing else prediction.margin,
        status=prediction.status,
        reasons=list(prediction.reasons),
        checks=list(prediction.checks),
        flags=list(prediction.flags),
        error=prediction.error,
        heatmap=assessment.heatmap,
        model=prediction.model,
        digest=prediction.digest,
        seconds=round(prediction.seconds, 6),
        heatmap_empty=None if assessment.evidence is None else not assessment.evidence,
    )


@asynccontextmanager
async def _lifespan(uploads: Uploads, app: FastAPI) -> AsyncIterator[None]:
    open_cache()
    try:
        yield
    finally:
        uploads.clear()
        close_cache()


def _check_auth(auth: tuple[str, str] | None) -> None:
    if auth is not None and (not all(auth) or ":" in auth[0]):
        raise InputError("the authentication must be user:password, with neither empty and no colon in the user")


def _docs_page(model: str) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code></td><td>{html.escape(field.description or NOTICE)}</td></tr>"
        for name, field in ImageAnswer.model_fields.items()
    )
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>medsharp API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#1f2933}}
pre{{background:#f1f4f8;padding:1rem;overflow-x:auto;border-radius:.4rem}}
td{{padding:.3rem .8rem .3rem 0;vertical-align:top}}
.notice{{background:#7a1d1d;color:#fff;padding:.5rem 1rem;border-radius:.4rem}}</style></head><body>
<p class="notice"><strong>{NOTICE}</strong> Research software.</p>
<h1>medsharp API</h1><p>Model: {html.escape(model)}</p>
<h2>POST /predict</h2><pre>curl -F files=@image.png -F files=@scan.dcm -F heatmap=1 http://127.0.0.1:7860/predict</pre>
<p>One entry an image, in the order sent. An image that cannot be read has its reason under <code>error</code>; one that
an input check refuses has <code>"status": "refused"</code>, its <code>reasons</code>, and null in place of numbers,
which is not an all-clear; the others are assessed. 200 when at least one could be read, 422 when none could, 413 for
too many bytes or images, 503 with <code>Retry-After</code> when too many requests wait already,
401 without the password where one is set (<code>curl --user user:password</code>).</p><table>{rows}</table>
<h2>GET /model</h2><p>What the model is and how it did: internal figures, and those of each hospital that was left out
of training, each with its 95 % interval, or a remark that there are none.</p>
<h2>GET /healthz</h2><p>Status, version, model name and the SHA-256 of the model; needs no password.</p>
<p>Machine-readable: <a href="openapi.json">openapi.json</a>. <a href="./">The page</a>.</p></body></html>"""
