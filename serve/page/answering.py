"""An image that the page sends again: the card of another frame or region, or the answer as a file to keep."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from medsharp.errors import InputError
from serve.api.assessing import unless_gone
from serve.api.wishes import read_wishes
from serve.engine.capacity import Memory
from serve.page import cards
from serve.page.asking import Asking
from serve.page.examples import simulated_example
from serve.page.paper import KINDS, on_paper
from serve.page.sent import Sent, crc32
from serve.security.access import who_asks
from serve.uploads.bodies import read_images
from serve.uploads.forms import Form
from serve.uploads.uploads import Limits

if TYPE_CHECKING:
    from fastapi import FastAPI

SIDE = 1024
"""Longest side in pixels of a picture that can be zoomed."""


def add_answering(app: FastAPI, asking: Asking, limits: Limits, memory: Memory) -> None:
    """Add `POST /page/answer` and `GET /page/examples/N`, which the page's scripts use."""

    @app.post("/page/answer", include_in_schema=False)
    async def answer(request: Request) -> Response:
        async with read_images(request, limits, memory) as form:
            return await _answer(request, form, asking)

    @app.get("/page/examples/{number}", include_in_schema=False)
    async def example(number: int) -> Response:
        content = await asyncio.to_thread(simulated_example, number)
        if content is None:
            raise HTTPException(404, f"there is no simulated image {number}")
        return Response(content, media_type="image/png")


async def _answer(request: Request, form: Form, asking: Asking) -> Response:
    kind = form.fields.get("as", "")
    if kind and kind not in KINDS:
        raise InputError(f"the answer cannot be saved as '{kind}'; choose from {', '.join(KINDS)}")
    wishes = read_wishes({}, form.fields, 1)
    name, content = which_image(form)
    model = asking.model(wishes.model or "")
    background = await asyncio.to_thread(model.background)
    options = wishes.options
    work = model.assess([content], [name], who_asks(request), side=SIDE, options=options)
    (assessment,) = await unless_gone(request, work)
    if assessment.prediction.error is not None:
        raise HTTPException(500 if assessment.is_fault else 422, assessment.prediction.error)
    if kind:
        return await asyncio.to_thread(on_paper, kind, assessment, content, background)
    sent = Sent(0, 0, crc32(content))  # which of its files it is the page itself knows
    return HTMLResponse(cards.detail(assessment, background, cards.Asked(sent, options.frame)))


def which_image(form: Form) -> tuple[str, bytes]:
    """Return name and bytes of the image that is meant: the one of the CRC-32 in the field `image`, or the only one.

    Raises:
        InputError: None is, or it is not said which.
    """
    images = list(zip(form.names, form.contents, strict=True))
    wanted = form.fields.get("image")
    if wanted:
        images = [one for one in images if str(crc32(one[1])) == wanted][:1]
        if not images:
            raise InputError("the file is not the one that was assessed; please choose it again")
    if len(images) != 1:
        raise InputError(f"{len(images)} images were sent; say which one is meant")
    return images[0]
