"""The tab that assesses images: drop them or click an example, and see what the model says."""

from __future__ import annotations

import asyncio
import functools
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from medsharp.errors import InputError
from medsharp.inference.heatmap import shrink
from serve.engine.capacity import Memory
from serve.engine.draw import png_uri
from serve.page import cards
from serve.page.answering import SIDE
from serve.page.asking import REFUSALS, Asking
from serve.page.examples import simulated_example, simulated_examples
from serve.page.gradio_guard import Visitor
from serve.page.numbers import sentence
from serve.page.sent import Sent, crc32
from serve.security.access import who_asks
from serve.security.gate import megabytes
from serve.uploads.archive import is_archive, read_archive
from serve.uploads.uploads import UNASKED_SECONDS, Limits, Uploads

if TYPE_CHECKING:
    import numpy as np

_SEVERAL_SIDE = 480
"""Longest side of a picture of several: all of them travel in one answer."""

_EMPTY = """<div class="ms-empty"><p><b>The answer appears here.</b></p>
<p>Upload one or several breast-ultrasound images, or click a simulated example.</p></div>"""

_SHOW = "(answer, earlier) => window.medsharp.show(answer, earlier)"
_CLEAR = "() => window.medsharp.clear()"


def assess_tab(page: Any, asking: Asking, limits: Limits, memory: Memory, uploads: Uploads) -> Any:
    """Lay out the tab, inside of it, with its events; return the choice of a model, None where there is one only.

    Args:
        page: The `gradio.Blocks`.
        asking: Asks the models.
        limits: How much one upload may bring.
        memory: Counts what archives unpack to.
        uploads: Where files are kept until they are asked about.
    """
    import gradio as gr

    events = _Events(page, asking, limits, memory, uploads)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            upload = gr.File(label="Ultrasound images", file_count="multiple", height=150, elem_id="upload")
            gr.HTML(_conditions(limits))
            several = len(asking.names) > 1
            # Programs that call this event give the files alone where there is one model only.
            chosen = [gr.Dropdown(list(asking.names), label="Model", elem_id="model")] if several else []
            gr.HTML('<p class="ms-small"><b>No image at hand?</b> Try a simulated one, of no patient:</p>')
            with gr.Row(elem_classes="ms-examples"):
                buttons = [_example_button(gr, pixels, label) for label, pixels in simulated_examples()]
        with gr.Column(scale=5, min_width=320):
            answer = gr.HTML(_EMPTY, elem_id="answer", min_height=260)
            earlier = gr.HTML("", elem_id="earlier")
    # A second upload during an answer is answered after it; by default Gradio would drop it without a word.
    # Without Gradio's preprocessing, which would look for a file.
    answered = upload.upload(
        events.uploaded,
        [upload, *chosen],
        answer,
        preprocess=False,
        trigger_mode="multiple",
        api_name="assess",
        api_visibility="undocumented",
    )
    quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    answered.then(None, None, upload, js=_CLEAR, **quietly)
    answered.then(None, [answer, earlier], earlier, js=_SHOW, **quietly)
    for position, button in enumerate(buttons):
        event = functools.partial(events.example, position)
        answered = button.click(
            event, chosen, answer, preprocess=False, trigger_mode="multiple", api_visibility="private"
        )
        answered.then(None, [answer, earlier], earlier, js=_SHOW, **quietly)
    return chosen[0] if several else None


def _conditions(limits: Limits) -> str:
    return (
        '<p class="ms-fits"><b>One lesion in each image, grey B-mode.</b> No colour Doppler, no elastography, no photo '
        "of a screen.</p>"
        '<p class="ms-small">PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM, clips too, or a zip of them; '
        f"{megabytes(limits.max_file_bytes)} and {limits.max_files} images at most. The server keeps them "
        f"in its memory until they are answered, or for {UNASKED_SECONDS // 60} minutes if the page is closed before, "
        "and writes neither them nor their names to a disk. For another frame, a region or a file to save, this page "
        "sends the image again: the server has it no longer.</p>"
    )


class _Events:
    """What the events of the tab do."""

    def __init__(self, page: Any, asking: Asking, limits: Limits, memory: Memory, uploads: Uploads) -> None:
        self._page = page
        self._asking = asking
        self._limits = limits
        self._memory = memory
        self._uploads = uploads

    async def uploaded(self, given: list[dict[str, Any]] | None, model: str = "") -> str:
        """Answer uploads."""
        try:
            with (
                self._memory.reservation() as reserve,
                self._uploads.take([str(upload["path"]) for upload in given or []]) as (names, contents),
            ):
                if not contents:
                    raise InputError("no image arrived; please choose the file again")
                shown: list[str] = []
                images: list[bytes] = []
                sent: list[Sent] = []
                for name, content in zip(names, contents, strict=True):
                    inside = [name], [content]
                    if is_archive(content):
                        inside = await asyncio.to_thread(read_archive, content, self._limits, name, reserve)
                    shown += inside[0]
                    images += inside[1]
                    sent += await asyncio.to_thread(_sent, content, inside[1])
                return await self._show(images, shown, sent, model)
        except HTTPException as error:
            return cards.problem(sentence(error.detail))
        except REFUSALS as error:
            return cards.problem(sentence(str(error)))

    async def example(self, position: int, model: str = "") -> str:
        """Answer an example."""
        content = simulated_example(position + 1) or b""
        label, _ = simulated_examples()[position]
        name = f"simulated image {position + 1} ({label} lesion)"
        try:
            return await self._show([content], [name], [Sent(0, 0, crc32(content), position + 1)], model)
        except REFUSALS as error:
            return cards.problem(sentence(str(error)))

    async def _show(self, contents: Sequence[bytes], names: Sequence[str], sent: Sequence[Sent], model: str) -> str:
        most = self._limits.max_files
        if len(contents) > most:
            raise InputError(f"{len(contents)} images are more than the {most} that are shown here; use the tab Batch")
        visitor = Visitor(self._page)
        asked = self._asking.model(model)
        background = await asyncio.to_thread(asked.background)
        try:
            assessments = await asked.assess(
                contents,
                names,
                who_asks(visitor.request),
                side=SIDE if len(contents) == 1 else _SEVERAL_SIDE,
                wanted=visitor.is_waiting,
            )
            if not assessments:
                return _EMPTY
            return cards.result(assessments, background, [cards.Asked(one) for one in sent[: len(assessments)]])
        finally:
            visitor.forget_answer()


def _sent(content: bytes, images: Sequence[bytes]) -> list[Sent]:
    crc = crc32(content)
    return [Sent(len(content), crc, crc32(image)) for image in images]


def _example_button(gr: Any, pixels: np.ndarray, label: str) -> Any:
    with gr.Column(min_width=80, elem_classes="ms-example"):
        picture = png_uri(shrink(pixels, 160))
        gr.HTML(f'<img class="ms-thumb" src="{picture}" alt="simulated image, {html.escape(label)} lesion">')
        return gr.Button(f"Simulated, {label}", size="sm")
