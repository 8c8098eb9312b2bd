"""The Gradio page: upload or click an example, see the image, the heat map, the probability and the decision."""

from __future__ import annotations

import functools
import html
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medsharp.errors import InputError
from serve import cards
from serve.about import about_model, model_card
from serve.assess import Assessor, png_uri
from serve.gate import NOTICE, megabytes
from serve.uploads import Limits, private_cache, take

if TYPE_CHECKING:
    from fastapi import FastAPI

_SINGLE_SIDE, _SEVERAL_SIDE = 640, 360

_BANNER = f"""<div class="ms-banner" role="note"><b>{NOTICE}</b>
<span>Research software: its answers must not decide, delay or replace any examination or treatment.</span></div>"""

_EMPTY = """<div class="ms-empty"><p><b>The answer appears here.</b></p>
<p>Upload one or several breast-ultrasound images, or click a simulated example.</p></div>"""

# Whether a visitor sees a lesion that the simulation made benign or malignant is said on the button.
_EXAMPLES = (("benign", 3), ("malignant", 11), ("malignant", 4))


def mount_page(app: FastAPI, assessor: Assessor, limits: Limits) -> None:
    """Build the page and mount it at `/`; routes that the application has already come first."""
    # Both are read when Gradio is imported or a component is made. Analytics would tell a third party of each start.
    private_cache()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    gr.mount_gradio_app(
        app,
        build_page(assessor, limits),
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


def build_page(assessor: Assessor, limits: Limits) -> Any:
    """Lay out the page.

    Returns:
        The `gradio.Blocks`.
    """
    import gradio as gr

    spec = assessor.predictor.spec
    examples = _simulated_examples()
    assess_uploads, assess_example = _events(assessor, limits, examples)
    with gr.Blocks(title="medsharp", analytics_enabled=False, delete_cache=(60, 300)) as page:
        gr.HTML(_BANNER)
        gr.HTML(
            '<div class="ms-head"><h1>Breast-ultrasound lesion classifier</h1>'
            f"<p>Model <b>{html.escape(spec.name)}</b>, served by medsharp</p></div>"
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                upload = gr.File(
                    label=f"PNG, JPEG, TIFF, BMP or DICOM, up to {megabytes(limits.max_file_bytes)} each",
                    file_count="multiple",
                    height=170,
                )
                gr.HTML('<p class="ms-small">Images are read into memory, assessed and forgotten; nothing is kept.</p>')
                if examples:
                    gr.HTML('<p class="ms-small"><b>No image at hand?</b> These are <b>simulated</b>, of no patient:</p>')
                    with gr.Row(elem_classes="ms-examples"):
                        buttons = [_example_button(gr, pixels, label) for label, pixels in examples]
            with gr.Column(scale=5, min_width=320):
                answer = gr.HTML(_EMPTY, elem_id="answer", min_height=260)
        with gr.Accordion("About this model", open=False):
            gr.HTML(about_model(assessor.predictor))
            card = model_card(assessor.predictor)
            if card:
                with gr.Accordion("Model card", open=False):
                    gr.Markdown(card)
        gr.HTML(
            '<p class="ms-foot">For programs: <a href="docs">the HTTP API</a>. The heat map shows where the network '
            "found evidence for its answer; it is not the outline of a lesion.</p>"
        )
        # Cleared after each answer: the file is deleted by then, and the place is free for the next.
        upload.upload(assess_uploads, upload, [answer, upload], api_name="assess", api_visibility="undocumented")
        for position, button in enumerate(buttons if examples else []):
            event = functools.partial(assess_example, position)
            button.click(event, None, answer, api_visibility="private")
    page.queue(default_concurrency_limit=1, max_size=32)
    return page


def _events(
    assessor: Assessor, limits: Limits, examples: list[tuple[str, np.ndarray]]
) -> tuple[Callable[[list[str] | None], tuple[str, None]], Callable[[int], str]]:
    spec = assessor.predictor.spec
    threshold = spec.operating_point.threshold
    negative = " or ".join(name for name in spec.classes if name != spec.positive)

    def show(contents: list[bytes], names: list[str]) -> str:
        side = _SINGLE_SIDE if len(contents) == 1 else _SEVERAL_SIDE
        assessments = assessor.assess(contents, names, image_side=side, heatmap_side=side)
        return cards.result(assessments, spec.positive, negative, threshold)

    def assess_uploads(paths: list[str] | None) -> tuple[str, None]:
        try:
            contents, names = take(paths or [])
            if not contents:
                return _EMPTY, None
            if len(contents) > limits.max_files:
                raise InputError(f"{len(contents)} images at once are too many; choose at most {limits.max_files}")
            return show(contents, names), None
        except InputError as error:
            return cards.problem(cards.sentence(str(error))), None

    def assess_example(position: int) -> str:
        label, pixels = examples[position]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return show([buffer.getvalue()], [f"simulated image {position + 1} ({label} lesion)"])

    return assess_uploads, assess_example


def _example_button(gr: Any, pixels: np.ndarray, label: str) -> Any:
    with gr.Column(min_width=80):
        gr.HTML(f'<img class="ms-thumb" src="{png_uri(pixels, 160)}" alt="simulated image, {label} lesion">')
        return gr.Button(f"Simulated, {label}", size="sm")


@functools.cache
def _simulated_examples() -> list[tuple[str, np.ndarray]]:
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
