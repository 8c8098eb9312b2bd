"""What a busy server refuses at its door, with next to no work: requests that bring images, before their bodies."""

from __future__ import annotations

from collections.abc import Callable

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.api.requests import note_route
from serve.engine import BusyError
from serve.security.gate import refuse, route_path

WORK = (
    "/v1/predict",
    "/predict",
    "/page/answer",
    "/page/batch",
    "/page/robustness",
    "/page/compare",
    "/v2/models/{name}/infer",
    "/v2/models/{name}/versions/{version}/infer",
)
"""Routes that have images assessed."""


class OverloadRefusals:
    """ASGI middleware that answers requests for which there is no room, which they would be told later all the same.

    Under overload most requests are refused, and what that costs is taken from those that are answered. Of the body
    nothing is read here: the server that listens drops it as it comes, so that the client, which may send all of it
    before it looks, finds the answer and no broken connection.

    Args:
        app: The application.
        check: Raises BusyError where there is no room, or where the server is stopping.
    """

    def __init__(self, app: ASGIApp, check: Callable[[], None]) -> None:
        self.app = app
        self._check = check
        self._paths = [(route, compile_path(route)[0]) for route in WORK]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        path = route_path(scope)
        route = next((route for route, pattern in self._paths if pattern.match(path)), None)
        try:
            if route is not None:
                self._check()
        except BusyError as error:
            note_route(scope, str(route))
            await refuse(error.status, str(error), dict(error.headers), path=path)(scope, receive, send)
        else:
            await self.app(scope, receive, send)
