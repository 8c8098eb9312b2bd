"""The Gradio page: upload or click an example, see the image, its heat map, and how far from the threshold it is."""

from __future__ import annotations

import functools
import html
import io
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.routing import Mount

from medsharp.errors import InputError
from serve.engine.assess import Assessor, png_uri, shrink
from serve.engine.capacity import BusyError, Memory, WorkQueue
from serve.page import cards
from serve.page.about import about_model, model_card, performance
from serve.page.gradio_guard import (
    UploadProgress,
    Visitor,
    accept_only_uploads,
    in_event_loop,
    keep_no_sessions,
    print_no_errors,
)
from serve.security.gate import NOTICE, megabytes
from serve.uploads.forms import read_form
from serve.uploads.uploads import UNASKED_SECONDS, Limits, Uploads, open_cache

if TYPE_CHECKING:
    from fastapi import FastAPI

_SINGLE_SIDE, _SEVERAL_SIDE = 640, 360
_EARLIER = 10
"""Earlier answers that the page shows."""

_BANNER = f"""<div class="ms-banner" role="note"><b>{NOTICE}</b>
<span>Research software: its answers must not decide, delay or replace any examination or treatment.</span></div>"""

_EMPTY = """<div class="ms-empty"><p><b>The answer appears here.</b></p>
<p>Upload one or several breast-ultrasound images, or click a simulated example.</p></div>"""

# These run in the browser. On a phone the answer lies below the fold. An answer that another one replaces is kept,
# folded, below it: the next may come at once where a second file was dropped during the first one's turn.
_SHOW_ANSWER = """(answer, earlier) => {
  document.getElementById('answer').scrollIntoView({behavior: 'smooth', block: 'nearest'});
  const last = window.medsharpAnswer;
  window.medsharpAnswer = answer;
  const drawn = new DOMParser().parseFromString(last || '', 'text/html').body;
  const title = drawn.querySelector('.ms-name, caption');
  if (title === null || last === answer) return earlier;
  const kept = new DOMParser().parseFromString(earlier || '', 'text/html').body;
  const folded = document.createElement('details');
  folded.append(document.createElement('summary'), ...drawn.childNodes);
  folded.firstChild.textContent = title.textContent;
  const all = [folded, ...kept.querySelectorAll(':scope > details')].slice(0, EARLIER);
  return '<p class="ms-small">Earlier answers, kept in this page only:</p>' + all.map(one => one.outerHTML).join('');
}""".replace("EARLIER", str(_EARLIER))

# The place for files is cleared for the next, but not while the next is arriving, when there is no field for files: it
# would be lost, and the page with it. An update of nothing leaves all as it is.
_CLEAR_UPLOADED = "() => document.querySelector('#upload input[type=file]') === null ? {__type__: 'update'} : null"

# Whether a visitor sees a lesion that the simulation made benign or malignant is said on the button.
_EXAMPLES = (("benign", 3), ("malignant", 12), ("malignant", 4))


def mount_page(
    app: FastAPI, assessor: Assessor, limits: Limits, queue: WorkQueue, memory: Memory, uploads: Uploads
) -> None:
    """Build the page and mount it at `/`; routes that the application has already come first.

    Args:
        app: The application.
        assessor: Answers.
        limits: How much one upload may bring.
        queue: Where an upload waits for its turn, together with the API's requests.
        memory: Counts the bytes of uploads that are arriving.
        uploads: Where they are kept once they have arrived.
    """
    # Both are read when Gradio is imported or a component is made. Analytics would tell a third party of each start.
    open_cache()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    _receive_uploads(app, limits, memory, uploads)
    print_no_errors()
    in_event_loop(lambda: _mount(app, assessor, limits, queue, uploads))


def _receive_uploads(app: FastAPI, limits: Limits, memory: Memory, uploads: Uploads) -> None:
    """Take uploads in Gradio's place, which would write each to a path made of its content: one for two visitors."""

    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request, upload_id: str | None = None) -> Response:
        progress = UploadProgress(upload_id)
        try:
            async with read_form(request, limits, memory, progress.arrived) as form:
                names, contents = form.names, form.contents
            return JSONResponse([uploads.keep(name, content) for name, content in zip(names, contents, strict=True)])
        except HTTPException as error:
            # The page shows the words of an answer as they are.
            return PlainTextResponse(cards.sentence(error.detail), error.status_code)
        except BusyError as error:
            return PlainTextResponse(cards.sentence(str(error)), 503)
        finally:
            progress.end()


def _mount(app: FastAPI, assessor: Assessor, limits: Limits, queue: WorkQueue, uploads: Uploads) -> None:
    import gradio as gr

    page = build_page(assessor, limits, queue, uploads)
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
        max_file_size=limits.max_file_bytes,
        theme=_theme(),
        css_paths=[Path(__file__).with_name("page.css")],
    )
    mounted = app.router.routes[-1]
    if not isinstance(mounted, Mount):
        raise TypeError(f"expected the mounted page, found {mounted!r}")
    keep_no_sessions(mounted.app, page)


def build_page(assessor: Assessor, limits: Limits, queue: WorkQueue, uploads: Uploads) -> Any:
    """Lay out the page.

    Returns:
        The `gradio.Blocks`.
    """
    import gradio as gr

    spec = assessor.predictor.spec
    examples = simulated_examples()
    with gr.Blocks(title="medsharp", analytics_enabled=False) as page:
        assess_uploads, assess_example = _events(page, assessor, queue, uploads, examples)
        gr.HTML(_BANNER)
        gr.HTML(
            value='<div class="ms-head"><h1>Breast-ultrasound lesion classifier</h1>'
            f"<p>Model <b>{html.escape(spec.name)}</b>, served by medsharp</p></div>{performance(assessor.predictor)}",
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                upload = gr.File(
                    label="Ultrasound images",
                    file_count="multiple",
                    height=150,
                    elem_id="upload",
                )
                gr.HTML(
                    '<p class="ms-small">PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM, '
                    f"{megabytes(limits.max_file_bytes)} and {limits.max_files} images at most. The server keeps them "
                    "in its memory until they are answered, or for "
                    f"{UNASKED_SECONDS // 60} minutes if the page is closed before, and writes neither them nor their "
                    "names to a disk.</p>",
                )
                gr.HTML(
                    '<p class="ms-small"><b>No image at hand?</b> Try a simulated one, of no patient:</p>',
                )
                with gr.Row(elem_classes="ms-examples"):
                    buttons = [_example_button(gr, pixels, label) for label, pixels in examples]
            with gr.Column(scale=5, min_width=320):
                answer = gr.HTML(_EMPTY, elem_id="answer", min_height=260)
                earlier = gr.HTML("", elem_id="earlier")
        with gr.Accordion("About this model", open=False):
            gr.HTML(about_model(assessor.predictor))
            card = model_card(assessor.predictor)
            if card:
                with gr.Accordion("Model card", open=False):
                    gr.Markdown(card)
        gr.HTML(
            '<p class="ms-foot">The heat map shows where the network found evidence for '
            f"{html.escape(cards.noun(spec.positive))} (warm) and against it (cold), which together make its answer; "
            'it is not the outline of a lesion. Programs use <a href="docs">the HTTP API</a>.</p>',
        )
        accept_only_uploads(upload, uploads)
        # A second upload during an answer is answered after it; by default Gradio would drop it without a word.
        # Without Gradio's preprocessing, which would look for a file.
        answered = upload.upload(
            assess_uploads,
            upload,
            answer,
            preprocess=False,
            trigger_mode="multiple",
            api_name="assess",
            api_visibility="undocumented",
        )
        quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        answered.then(None, None, upload, js=_CLEAR_UPLOADED, **quietly)
        answered.then(None, [answer, earlier], earlier, js=_SHOW_ANSWER, **quietly)
        for position, button in enumerate(buttons):
            event = functools.partial(assess_example, position)
            answered = button.click(event, None, answer, trigger_mode="multiple", api_visibility="private")
            answered.then(None, [answer, earlier], earlier, js=_SHOW_ANSWER, **quietly)
    # All begin at once, take their uploads, and wait for their turn in the one queue that the API's requests share.
    page.queue(default_concurrency_limit=None, max_size=limits.max_waiting + 1)
    return page


def _events(
    page: Any, assessor: Assessor, queue: WorkQueue, uploads: Uploads, examples: list[tuple[str, np.ndarray]]
) -> tuple[
    Callable[[list[dict[str, Any]] | None], Coroutine[Any, Any, str]],
    Callable[[int], Coroutine[Any, Any, str]],
]:
    spec = assessor.predictor.spec
    threshold = spec.operating_point.threshold

    async def show(contents: list[bytes], names: list[str]) -> str:
        side = _SINGLE_SIDE if len(contents) == 1 else _SEVERAL_SIDE
        visitor = Visitor(page)

        def work() -> str:
            assessments = assessor.assess(
                contents, names, image_side=side, heatmap_side=side, wanted=visitor.is_waiting
            )
            return cards.result(assessments, spec.positive, threshold) if assessments else _EMPTY

        try:
            return await queue.run(work)
        finally:
            visitor.forget_answer()

    async def assess_uploads(given: list[dict[str, Any]] | None) -> str:
        try:
            with uploads.take([str(upload["path"]) for upload in given or []]) as (names, contents):
                if not contents:
                    raise InputError("no image arrived; please choose the file again")
                return await show(contents, names)
        except (InputError, BusyError) as error:
            return cards.problem(cards.sentence(str(error)))

    async def assess_example(position: int) -> str:
        label, pixels = examples[position]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        try:
            return await show([buffer.getvalue()], [f"simulated image {position + 1} ({label} lesion)"])
        except BusyError as error:
            return cards.problem(cards.sentence(str(error)))

    return assess_uploads, assess_example


def _example_button(gr: Any, pixels: np.ndarray, label: str) -> Any:
    with gr.Column(min_width=80, elem_classes="ms-example"):
        gr.HTML(f'<img class="ms-thumb" src="{png_uri(shrink(pixels, 160))}" alt="simulated image, {label} lesion">')
        return gr.Button(f"Simulated, {label}", size="sm")


@functools.cache
def simulated_examples() -> list[tuple[str, np.ndarray]]:
    """Make the examples: label as simulated, and uint8 [256, 256]."""
    from medsharp.data.phantom import simulate_image

    return [(label, simulate_image("A", label, np.random.default_rng(seed)).pixels) for label, seed in _EXAMPLES]


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
