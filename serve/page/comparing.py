"""One image asked of every model that is served."""

from __future__ import annotations

import asyncio
import functools
import html
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI

from medsharp.errors import InputError
from medsharp.inference import Prediction
from serve.api.wishes import read_wishes
from serve.engine.capacity import Memory
from serve.page.answering import which_image
from serve.page.asking import Asking
from serve.page.meaning import Background, odds
from serve.page.numbers import noun, percent, probability_beside, sentence
from serve.page.told import add_work
from serve.security.access import Access
from serve.uploads.forms import Form
from serve.uploads.uploads import Limits


def add_comparing(app: FastAPI, asking: Asking, limits: Limits, memory: Memory) -> None:
    """Add `POST /page/compare`: one image, and as fields `image`, `frame` and `box`."""
    add_work(app, "/page/compare", functools.partial(_compare, asking), limits, memory)


async def _compare(asking: Asking, form: Form, who: Access) -> AsyncIterator[dict[str, Any]]:
    name, content = which_image(form)
    options = read_wishes({}, form.fields, 1).options
    names = asking.names
    yield {"done": 0, "total": len(names), "what": "asking"}
    rows = []
    for done, model in enumerate(map(asking.model, names), start=1):
        background = await asyncio.to_thread(model.background)
        (answer,) = await model.assess([content], [name], who, options=options)
        if answer.prediction.error is not None:
            raise InputError(answer.prediction.error)
        rows.append(_row(answer.prediction, background))
        yield {"done": done, "total": len(names), "what": f"asked {model.name}"}
    yield {"html": _table(name, rows)}


def _table(name: str, rows: list[str]) -> str:
    said = f"{name}: asked of {len(rows)} models."
    return (
        f'<div class="ms-table" data-said="{html.escape(said)}"><table><caption>{html.escape(name)}</caption>'
        "<thead><tr>"
        '<th scope="col">Model</th><th scope="col">Probability</th><th scope="col">Operating point</th>'
        '<th scope="col">Side</th><th scope="col">How far</th></tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table><p class="ms-small">Each model has a scale and an operating point of '
        "its own: compare the sides and how far from it, not the probabilities.</p></div>"
    )


def _row(prediction: Prediction, background: Background) -> str:
    start = f'<th scope="row">{html.escape(background.spec.name)}</th>'
    threshold = background.threshold
    if prediction.side is None:
        why = html.escape(" ".join(map(sentence, prediction.reasons)))
        return f'<tr class="ms-silent">{start}<td colspan="4"><b>No answer.</b> {why}</td></tr>'
    probability = prediction.positive_probability
    words = "at or above" if prediction.side == "above" else "below"
    return (
        f'<tr>{start}<td class="ms-cell">{html.escape(probability_beside(probability, threshold))} '
        f"<span>of {html.escape(noun(background.positive))}</span></td><td>{percent(threshold)}</td>"
        f'<td><span class="ms-pill ms-{prediction.side}">{words}</span></td>'
        f"<td>{odds(probability, threshold)}</td></tr>"
    )
