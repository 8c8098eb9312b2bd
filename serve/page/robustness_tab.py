"""The tab that corrupts the image which was assessed last."""

from __future__ import annotations

from serve.page.forms import OUTCOME, STOP
from serve.page.robustness import FAMILIES, SEVERITIES


def robustness_tab() -> None:
    """Lay out the tab, inside of it."""
    import gradio as gr

    options = "".join(f'<option value="{key}">{words}</option>' for key, words in FAMILIES.items())
    severities = ", ".join(map(str, SEVERITIES))
    gr.HTML(
        '<section class="ms-work" aria-label="Robustness of one answer">'
        '<form class="ms-one" data-path="page/robustness">'
        "<p>How much does the answer depend on how the image was made? The image that was assessed last, in the tab "
        "Assess (of several the one that is open), "
        f"is corrupted in many ways at the severities {severities}, and assessed again each time; and what was "
        "drawn onto it is removed.</p>"
        f'<p><label class="ms-inline">Corruptions <select name="family">{options}</select></label></p>'
        f'<p><button class="ms-main">Corrupt this image</button> {STOP}</p>'
        '<p class="ms-small">The page sends the image again; the server keeps it no longer than this takes.</p></form>'
        f"{OUTCOME}</section>"
    )
