"""The tab for many images: chosen in this page, sent with the labels in one request, and kept nowhere."""

from __future__ import annotations

from serve.page.asking import Asking
from serve.page.forms import OUTCOME, STOP, model_choice
from serve.security.gate import megabytes
from serve.uploads.uploads import Limits


def batch_tab(asking: Asking, limits: Limits) -> None:
    """Lay out the tab, inside of it."""
    import gradio as gr

    gr.HTML(
        '<section class="ms-work" aria-label="Many images"><form class="ms-batch-form">'
        '<p class="ms-fits"><b>One lesion in each image, grey B-mode.</b> A zip, or many images; '
        f"{limits.max_archive_files} images and {megabytes(limits.max_request_bytes)} at most. Of clips the sharpest "
        "frame is used.</p>"
        '<p><label>Images or a zip <input type="file" name="images" multiple required></label></p>'
        '<p><label>Labels, if you have them <input type="file" name="labels" accept=".csv,.tsv,.txt,.xlsx"></label> '
        '<span class="ms-small">A table with the columns image and label, and perhaps patient and site. With it you '
        "get the report of an evaluation.</span></p>"
        f'{model_choice(asking)}<p><button class="ms-main">Assess all</button> {STOP}</p>'
        '<p class="ms-small">All of it is sent at once when you press the button, is in the memory of the server until '
        "the answer is complete, and is gone then; nothing is written to a disk.</p></form>"
        f"{OUTCOME}</section>"
    )
