"""The tab that says what each model is, how it did inside and elsewhere, and what its limits are."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import Any

from serve.page.about import about_model, model_card, performance
from serve.page.asking import Asking
from serve.page.forms import OUTCOME, STOP

_COMPARE = (
    '<section class="ms-work" aria-label="Models compared"><form class="ms-one" data-path="page/compare">'
    "<p>Ask all models of the image that was assessed last, in the tab Assess.</p>"
    f'<p><button class="ms-main">Compare on this image</button> {STOP}</p></form>{OUTCOME}</section>'
)


def model_tab(asking: Asking) -> list[tuple[Any, Callable[[], str]]]:
    """Lay out the tab, inside of it.

    Returns:
        Each component with what draws it anew when the page is opened: a model may have been replaced since.
    """
    import gradio as gr

    drawn: list[tuple[Any, Callable[[], str]]] = []
    if len(asking.names) > 1:
        gr.HTML(_COMPARE)
    for name in asking.names:
        draw = functools.partial(_about, asking, name)
        drawn.append((gr.HTML(draw()), draw))
        with gr.Accordion(f"Model card of {name}", open=len(asking.names) == 1):
            card = functools.partial(_card, asking, name)
            drawn.append((gr.Markdown(card()), card))
    return drawn


def _about(asking: Asking, name: str) -> str:
    predictor = asking.model(name).predictor
    title = f"<h2>{html.escape(predictor.spec.name)}</h2>"
    return f'<section class="ms-model">{title}{performance(predictor)}{about_model(predictor)}</section>'


def _card(asking: Asking, name: str) -> str:
    return model_card(asking.model(name).predictor) or "This bundle carries no model card."
