"""Long work that tells how far it is: lines of JSON, as they come, in the answer to one request."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serve.engine.capacity import Memory
from serve.page.asking import REFUSALS
from serve.page.numbers import sentence
from serve.security.access import Access, who_asks
from serve.uploads.bodies import read_images
from serve.uploads.forms import Form
from serve.uploads.uploads import Limits

Work = Callable[[Form, Access], AsyncIterator[dict[str, Any]]]
"""Of what was sent and who asks gives steps, each with `done`, `total` and `what`, and at the end one with `html`."""


def add_work(app: FastAPI, path: str, work: Work, limits: Limits, memory: Memory) -> None:
    """Answer POST requests to a path by work that tells its progress."""
    app.router.routes.append(Route(path, _Told(work, limits, memory), methods=["POST"]))


class _Told:
    """ASGI application: the images are in memory as long as the answer lasts, and are gone when the client leaves."""

    def __init__(self, work: Work, limits: Limits, memory: Memory) -> None:
        self._work = work
        self._limits = limits
        self._memory = memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        async with read_images(request, self._limits, self._memory) as form:
            steps = self._work(form, who_asks(request))
            # What is wrong with a request is known before the first step, and told by the status.
            first = await anext(steps)
            answer = StreamingResponse(_lines(first, steps), media_type="application/x-ndjson")
            await answer(scope, receive, send)


async def _lines(first: dict[str, Any], steps: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    yield _line(first)
    try:
        async for step in steps:
            yield _line(step)
    except REFUSALS as error:
        yield _line({"error": sentence(str(error))})


def _line(step: dict[str, Any]) -> str:
    return json.dumps(step, ensure_ascii=False) + "\n"
