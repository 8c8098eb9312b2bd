"""The one place where the API has images assessed, and where that is written into the audit log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from medsharp.inference import Prediction
from serve.api.context import Context
from serve.engine import Assessment, ReadOptions
from serve.models import Served
from serve.security.access import who_asks

Result = TypeVar("Result")


async def assess(
    context: Context,
    request: Request,
    served: Served,
    contents: Sequence[bytes],
    names: Sequence[str],
    *,
    heatmap_side: int | None = None,
    deadline: float | None = None,
    options: ReadOptions = ReadOptions(),
) -> list[Assessment]:
    """Have the images of a request assessed, and write into the audit log what was said of each.

    Args:
        context: Of the routes.
        request: Whose images they are; read whole.
        served: The model.
        contents: The bytes of each file.
        names: How each is called.
        heatmap_side: Draw heat maps, at most this many pixels high and wide.
        deadline: Seconds that it may take; the server's own by default.
        options: What of each image is looked at.

    Raises:
        ClientDisconnect: The client has left.
        BusyError: As `Engine.assess` does.
        DeadlineError: As `Engine.assess` does.
        AuditError: The log cannot be written.
    """
    start = time.perf_counter()
    work = served.engine.assess(contents, names, heatmap_side=heatmap_side, deadline=deadline, options=options)
    assessments = await unless_gone(request, work)
    await record(context, request, served, contents, [one.prediction for one in assessments], start)
    return assessments


async def record(
    context: Context,
    request: Request,
    served: Served,
    contents: Sequence[bytes],
    predictions: Sequence[Prediction],
    start: float,
) -> None:
    """Write what was said into the audit log, where there is one; `start` is when the work began.

    Raises:
        AuditError: The log cannot be written; the answer must not be given.
    """
    if context.audit is not None:
        await context.audit.record(
            who_asks(request),
            contents,
            predictions,
            model=served.predictor.spec.name,
            digest=served.predictor.digest,
            seconds=time.perf_counter() - start,
        )


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work, and give it up when the client leaves, so that it takes no turn.

    Raises:
        ClientDisconnect: The client has left.
    """
    doing, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
