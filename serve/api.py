"""The HTTP API: `/healthz`, `POST /predict`, its description, and the page mounted at `/`."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from medsharp.errors import InputError
from medsharp.inference import Predictor
from serve.assess import Assessment, Assessor, is_missing
from serve.gate import NOTICE, Gate, megabytes, refuse
from serve.uploads import Limits, close_cache, open_cache, safe_name

# Larger than any ultrasound frame, so that the heat map keeps the size of the image.
_HEATMAP_SIDE = 4096

_DESCRIPTION = f"""Probability of malignancy of a lesion in a breast-ultrasound image. **{NOTICE}** Research software.

Send PNG, JPEG, TIFF, BMP or DICOM images to `POST /predict`; of a DICOM clip the sharpest frame is used. Images are
kept in memory while the request lasts, and neither they nor their names are logged or stored."""


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
    positive_probability: float | None = Field(description="Probability of malignancy")
    decision: str | None = Field(description="`positive` side of the operating point, or not; see threshold")
    threshold: float = Field(description="Operating point, fixed on the model's internal validation data")
    flags: list[str] = Field(description="What is unusual about the image")
    error: str | None = Field(description="Why the image could not be assessed")
    heatmap: str | None = Field(default=None, description="PNG data URI, image under heat map; with `heatmap=1` only")
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
        limits: How much one request may bring.

    Raises:
        InputError: The bundle is missing or damaged or looks at the lesion only, or the user name or password cannot be
            used.
    """
    from serve.page import mount_page

    limits = limits or Limits()
    _check_auth(auth)
    predictor = Predictor.load(bundle) if isinstance(bundle, str | Path) else bundle
    if predictor.preprocessing.crop == "lesion":
        raise InputError(
            f"{predictor.spec.name} looks at the lesion only, which an upload does not show it; "
            "use medsharp predict with a manifest, or with --box"
        )
    assessor = Assessor(predictor, limits.max_file_bytes)
    app = FastAPI(
        title="medsharp",
        version=version("medsharp"),
        description=_DESCRIPTION,
        docs_url=None,  # Its usual page loads scripts from another host.
        redoc_url=None,
        lifespan=_lifespan,
    )
    _add_routes(app, assessor, limits)
    mount_page(app, assessor, limits)
    app.add_middleware(Gate, auth=auth, max_request_bytes=limits.max_request_bytes)
    return app


def _add_routes(app: FastAPI, assessor: Assessor, limits: Limits) -> None:
    spec = assessor.predictor.spec
    threshold = spec.operating_point.threshold

    @app.get("/healthz", response_model=Health, summary="Is the server up, and with which model?")
    def healthz() -> Any:
        return Health(
            status="ok", version=version("medsharp"), model=spec.name, digest=spec.files.get("model.onnx", "")
        )

    @app.post(
        "/predict",
        response_model=list[ImageAnswer],
        openapi_extra={"requestBody": _REQUEST_BODY},
        responses={
            401: {"model": Refusal, "description": "User and password are needed"},
            413: {"model": Refusal, "description": "Too many bytes or too many images"},
            422: {"model": list[ImageAnswer] | Refusal, "description": "No image at all, or none that can be read"},
        },
        summary="Assess one or several images",
    )
    async def predict(request: Request) -> Any:
        """Answer one entry an image, in the order sent.

        An image that cannot be read has its reason under `error` and does not stop the others: the status is 200
        when at least one image could be assessed, and 422, with the same list, when none could.
        """
        async with request.form(max_files=limits.max_files + 1, max_fields=16) as form:
            contents, names = await _images(form, limits)
            with_heatmap = _switch(form, "heatmap")
        side = _HEATMAP_SIDE if with_heatmap else None
        assessments = await run_in_threadpool(assessor.assess, contents, names, heatmap_side=side)
        answers = [answer(assessment, threshold) for assessment in assessments]
        status = 422 if all(entry.error is not None for entry in answers) else 200
        return JSONResponse([entry.model_dump() for entry in answers], status)

    @app.get("/docs", include_in_schema=False, response_class=HTMLResponse)
    def docs() -> str:
        return _docs_page(spec.name)

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> JSONResponse:
        if error.detail.startswith("Too many files"):
            return refuse(413, _too_many(limits))
        return refuse(error.status_code, str(error.detail), dict(error.headers or {}))


async def _images(form: FormData, limits: Limits) -> tuple[list[bytes], list[str]]:
    uploads = [
        value
        for field in ("files", "file")
        for value in form.getlist(field)
        if isinstance(value, UploadFile) and (value.filename or value.size)
    ]
    if not uploads:
        raise HTTPException(422, "no image was sent; send one or several in the multipart field 'files'")
    if len(uploads) > limits.max_files:
        raise HTTPException(413, _too_many(limits))
    for position, upload in enumerate(uploads, start=1):
        if (upload.size or 0) > limits.max_file_bytes:
            name = safe_name(upload.filename, position)
            raise HTTPException(413, f"{name} is larger than {megabytes(limits.max_file_bytes)}")
    names = [safe_name(upload.filename, position) for position, upload in enumerate(uploads, start=1)]
    return [await upload.read() for upload in uploads], names


def _too_many(limits: Limits) -> str:
    return f"more than {limits.max_files} images were sent; send fewer in one request"


def _switch(form: FormData, name: str) -> bool:
    value = str(form.get(name, "0")).lower()
    if value not in ("0", "1", "false", "true"):
        raise HTTPException(422, f"{name} must be 0 or 1")
    return value in ("1", "true")


def answer(assessment: Assessment, threshold: float) -> ImageAnswer:
    """Say in JSON's terms what the model says of one image; an image with an error has null where numbers stand."""
    prediction = assessment.prediction
    missing = prediction.error is not None or is_missing(prediction.positive_probability)
    return ImageAnswer(
        name=prediction.name,
        probabilities=None if missing else {name: float(value) for name, value in prediction.probabilities.items()},
        positive_probability=None if missing else float(prediction.positive_probability),
        decision=None if missing else prediction.decision,
        threshold=threshold,
        flags=list(prediction.flags),
        error=prediction.error,
        heatmap=assessment.heatmap,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    open_cache()
    try:
        yield
    finally:
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
<p>One entry an image, in the order sent. An image that cannot be read has its reason under <code>error</code>; the
others are assessed. 200 when at least one was assessed, 422 when none was, 413 for too many bytes or images,
401 without the password where one is set (<code>curl --user user:password</code>).</p><table>{rows}</table>
<h2>GET /healthz</h2><p>Status, version, model name and the SHA-256 of the model; needs no password.</p>
<p>Machine-readable: <a href="openapi.json">openapi.json</a>. <a href="./">The page</a>.</p></body></html>"""
