"""The Gradio page: its tabs, how it takes uploads, and how it is mounted."""

from __future__ import annotations

import html
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from serve.api.context import Context
from serve.engine.capacity import BusyError, Memory
from serve.page.about import performance
from serve.page.answering import add_answering
from serve.page.asking import Asking
from serve.page.assess_tab import assess_tab
from serve.page.batch import add_batch
from serve.page.batch_tab import batch_tab
from serve.page.comparing import add_comparing
from serve.page.gradio_guard import (
    accept_only_uploads,
    in_event_loop,
    keep_no_sessions,
    print_no_errors,
    refuse_odd_questions,
)
from serve.page.gradio_routes import ServedRoutes
from serve.page.model_tab import model_tab
from serve.page.numbers import noun, sentence
from serve.page.progress import Progress
from serve.page.robustness import add_robustness
from serve.page.robustness_tab import robustness_tab
from serve.security.gate import NOTICE
from serve.uploads.forms import read_form
from serve.uploads.uploads import Limits, Uploads, open_cache

if TYPE_CHECKING:
    from fastapi import FastAPI

UploadNumber = Annotated[str | None, Query(max_length=100)]
"""That a page gives to its upload, to ask how much of it has arrived."""

_SCRIPTS = ("base", "show", "viewer", "again", "work")
"""In this order: the first defines what the others use."""

_BANNER = f"""<div class="ms-banner" role="note"><b>{NOTICE}</b>
<span>Research software: its answers must not decide, delay or replace any examination or treatment.</span></div>"""

_STATUS = '<p id="ms-said" class="ms-unseen" role="status" aria-live="polite"></p>'


def mount_page(app: FastAPI, context: Context, uploads: Uploads) -> None:
    """Build the page and mount it at `/`; routes that the application has already come first.

    Args:
        app: The application.
        context: The models, the limits, and what counts the bytes of uploads.
        uploads: Where they are kept once they have arrived.
    """
    asking, limits, memory = Asking(context), context.limits, context.memory
    # All are read when Gradio is imported or a component is made. Analytics would tell a third party of each start.
    open_cache()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Nor is there a page that shows a summary of who asked what, which would be made anew after each answer.
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    _receive_uploads(app, limits, memory, uploads)
    for add in (add_answering, add_batch, add_robustness, add_comparing):
        add(app, asking, limits, memory)
    print_no_errors()
    in_event_loop(lambda: _mount(app, asking, limits, memory, uploads))


def _receive_uploads(app: FastAPI, limits: Limits, memory: Memory, uploads: Uploads) -> None:
    """Take uploads in Gradio's place, which would write each to a path made of its content: one for two visitors."""

    progress = Progress()

    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request, upload_id: UploadNumber = None) -> Response:
        arriving = progress.begin(upload_id)
        try:
            async with read_form(request, limits, memory, arriving.arrived) as form:
                names, contents = form.names, form.contents
            return JSONResponse([uploads.keep(name, content) for name, content in zip(names, contents, strict=True)])
        except HTTPException as error:
            # The page shows the words of an answer as they are.
            return PlainTextResponse(sentence(error.detail), error.status_code)
        except BusyError as error:
            return PlainTextResponse(sentence(str(error)), error.status, dict(error.headers))
        finally:
            progress.end(upload_id, arriving)

    @app.get("/gradio_api/upload_progress", include_in_schema=False)
    async def upload_progress(request: Request, upload_id: UploadNumber = None) -> Response:
        arriving = await progress.find(upload_id or "", request)
        if arriving is None:
            raise HTTPException(404, "no such upload is being received")
        return StreamingResponse(progress.events(arriving, request), media_type="text/event-stream")


def _mount(app: FastAPI, asking: Asking, limits: Limits, memory: Memory, uploads: Uploads) -> None:
    import gradio as gr

    page = build_page(asking, limits, memory, uploads)
    here = Path(__file__).parent
    scripts = "\n".join((here / "js" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=limits.max_request_bytes,
        theme=_theme(),
        css_paths=[here / "page.css"],
        head=f"<script>{scripts}</script>",
    )
    mounted = app.router.routes[-1]
    if not isinstance(mounted, Mount):
        raise TypeError(f"expected the mounted page, found {mounted!r}")
    page_app: Any = mounted.app
    keep_no_sessions(page_app, page)
    refuse_odd_questions()
    # Gradio's own would repeat what was sent.
    for kind in (HTTPException, RequestValidationError):
        page_app.add_exception_handler(kind, app.exception_handlers[kind])
    page_app.add_middleware(ServedRoutes)


def build_page(asking: Asking, limits: Limits, memory: Memory, uploads: Uploads) -> Any:
    """Lay out the page.

    Returns:
        The `gradio.Blocks`.
    """
    import gradio as gr

    with gr.Blocks(title="medsharp", analytics_enabled=False) as page:
        gr.HTML(_BANNER, elem_id="ms-banner")
        head = gr.HTML(_head(asking))
        with gr.Tabs(overflow_behavior="wrap"):  # a menu of what is left over hides half of the page on a phone
            with gr.Tab("Assess"):
                chosen = assess_tab(page, asking, limits, memory, uploads)
            with gr.Tab("Batch", render_children=True):
                batch_tab(asking, limits)
            with gr.Tab("Robustness", render_children=True):
                robustness_tab()
            with gr.Tab("Model", render_children=True):
                show_models = model_tab(asking)
        gr.HTML(_foot(asking) + _STATUS)
        # What is said of a model is that of the one that answers now, which may have been replaced since the start.
        quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        given = [] if chosen is None else [chosen]
        page.load(partial(_head, asking), given, head, **quietly)
        if chosen is not None:
            chosen.change(partial(_head, asking), given, head, **quietly)
        for component, draw in show_models:
            page.load(draw, None, component, **quietly)
    accept_only_uploads(page, uploads)
    # All begin at once, take their uploads, and wait for their turn in the one queue that the API's requests share.
    page.queue(default_concurrency_limit=None, max_size=limits.max_waiting + 1)
    return page


def _head(asking: Asking, name: str = "") -> str:
    """Draw what stands above all tabs: which model answers in the tab Assess, and how it did."""
    predictor = asking.model(name if name in asking.names else "").predictor
    return (
        '<header class="ms-head"><h1>Breast-ultrasound lesion classifier</h1>'
        f"<p>Model <b>{html.escape(predictor.spec.name)}</b>, served by medsharp</p></header>{performance(predictor)}"
    )


def _foot(asking: Asking) -> str:
    positive = html.escape(noun(asking.model().predictor.spec.positive))
    return (
        '<footer class="ms-foot">The heat map shows where the network found evidence for '
        f"{positive} (warm) and against it (cold), which together make its answer; it is not the outline of a lesion. "
        'Programs use <a href="docs">the HTTP API</a>.</footer>'
    )


def _theme() -> Any:
    import gradio as gr

    # Only fonts that the visitor's machine has: the default ones would be fetched.
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "Menlo", "monospace"],
    )
